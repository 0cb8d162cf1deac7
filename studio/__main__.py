"""The program `nanochat-studio`, which app.py is too: reads flags, then serves the app."""

import argparse
import os
import signal
import socket
import sys
from types import FrameType

from studio.parts.uploads import MOST_UPLOAD, parse_size

TABS = ("data", "train", "evaluate", "chat")
AUTH = "NANOCHAT_STUDIO_AUTH"


def main(arguments: list[str] | None = None) -> int:
    """Serve the app until it is ended. Returns the exit status: 2 for a person's mistake."""
    options = _parse(arguments)
    try:
        login = _login(options.auth, os.environ.pop(AUTH, None))
        max_upload = parse_size(options.max_upload)
        _check_free(options.host, options.port)
    except ValueError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
    # Starting, gradio asks its own server; a proxy for the outside would get that question.
    os.environ["NO_PROXY"] = ",".join(filter(None, (os.environ.get("NO_PROXY"), "127.0.0.1", "localhost", "::1")))
    signal.signal(signal.SIGTERM, _leave)
    try:
        from studio.serve import serve  # noqa: PLC0415  gradio reads the lines above when it is imported

        return serve(options.host, options.port, options.tab, options.share, login, max_upload)
    except KeyboardInterrupt:  # before there was anything to close
        return 130


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Edit data, train, compare and chat.")
    in_space = bool(os.environ.get("SPACE_ID"))
    host = os.environ.get("GRADIO_SERVER_NAME") or ("0.0.0.0" if in_space else "127.0.0.1")
    port = int(os.environ.get("GRADIO_SERVER_PORT") or 7860)
    parser.add_argument("--host", default=host, help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=port)
    first = "chat" if in_space else "data"  # a Space's visitors can use that one
    parser.add_argument("--tab", choices=TABS, default=first, help="the tab that is open at first")
    parser.add_argument("--share", action="store_true", help="a public address through gradio's tunnel")
    login = f"ask for this name and password (or set {AUTH}, which no list of processes shows)"
    parser.add_argument("--auth", metavar="USER:PASSWORD", help=login)
    limit = f"the largest file that a browser may send (default: {MOST_UPLOAD})"
    parser.add_argument("--max-upload", metavar="SIZE", default=MOST_UPLOAD, help=limit)
    return parser.parse_args(arguments)


def _login(flag: str | None, variable: str | None) -> tuple[str, str] | None:
    """(name, password) from --auth, or else from the environment."""
    name, text = ("--auth", flag) if flag is not None else (AUTH, variable or None)
    if text is None:
        return None
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise ValueError(f"{name} must be a name and a password with a colon between them, such as me:secret.")
    return user, password


def _check_free(host: str, port: int) -> None:
    if not 0 < port < 65536:
        raise ValueError(f"--port {port} is no port: use a number from 1 to 65535.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            if os.name == "posix":  # elsewhere this option lets two programs share a port
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise ValueError(
            f"Port {port} of {host} cannot be used ({error.strerror or error}). "
            f"Is the app already running? Open http://{host}:{port}, or choose another port: --port {port + 1}."
        ) from error


def _leave(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
