"""`serve`: models for other programs, at OpenAI's addresses."""

import json
import os
import signal
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import tyro

from nanochat_core.cli.terminal import parse, say, tell
from nanochat_core.paths import default_model, find_model
from nanochat_core.system.foreign_requests import is_loopback

if TYPE_CHECKING:
    import uvicorn

    from nanochat_core.serve.answering import Answering
    from nanochat_core.serve.http import Served

KEY_VARIABLE = "NANOCHAT_STUDIO_API_KEY"
STOP_SECONDS = 5
"""How long the model's present step, and then the callers who take their last words, may hold up the end."""
KEEP_ALIVE_SECONDS = 75
"""Longer than clients keep a connection that they mean to use again; else one is closed under their hands."""


@dataclass(frozen=True)
class ServeCommand:
    """Answer other programs as OpenAI's API does, at http://HOST:PORT/v1. Ctrl-C ends it."""

    model: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """NAME of the model: starter, pretrained/d32, finetuned/<run>, or a folder; without it d32, or the starter. Given
    several times, callers choose by the name; runs with LoRA share the memory of their base."""
    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 for every machine that can reach this one (then with a key)."""
    port: int = 8000
    """Port to listen at; 0 takes a free one."""
    api_key: Annotated[str | None, tyro.conf.arg(metavar="KEY")] = None
    """Key that callers must send. Better in NANOCHAT_STUDIO_API_KEY: other users of this machine can see arguments."""
    max_batch: int = 8
    """Replies written at once; more of them wait."""
    device_type: str = "auto"
    """cuda, mps, cpu or auto."""
    dtype: str | None = None
    """float32, bfloat16, int8 or int4 (on a CPU: rounded weights, a quarter or a seventh of float32's memory), or auto:
    the fastest of them on this machine, found by a trial of a second; without it what suits best and rounds nothing."""


def run(arguments: list[str]) -> int:
    """Serve until a signal. ValueError for settings that cannot be."""
    options = parse(ServeCommand, arguments, "serve")
    if options.max_batch < 1:
        raise ValueError(f"--max-batch is {options.max_batch}; it must be 1 or more.")
    key = _checked_key(options)
    names = list(dict.fromkeys(options.model or (default_model(),)))
    for name in names:
        find_model(name)  # what is not there is said before anything else is tried
    with _listen(options.host, options.port) as listener:
        return _serve(options, names, key, listener)


def _checked_key(options: ServeCommand) -> str | None:
    """The key that callers must send; None when they need none."""
    key = os.environ.get(KEY_VARIABLE) or None if options.api_key is None else options.api_key
    if key is not None and not (key and key.isascii() and key.isprintable() and " " not in key):
        raise ValueError("The API key must be letters, digits and signs without blanks: it travels in an HTTP header.")
    if key is None and not is_loopback(options.host):
        # Refused and not only warned of: anyone who reaches the port could use the machine, and a key costs one line.
        raise ValueError(
            f"--host {options.host} lets other machines in, and no API key is set. Put a long random text into "
            f"{KEY_VARIABLE} (or --api-key), or serve on 127.0.0.1."
        )
    return key


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket: a taken port is found out before a large model is loaded."""
    if not 0 <= port <= 65535:
        raise ValueError(f"--port is {port}; it must be from 1 to 65535, or 0 for any free one.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError) as error:
        raise ValueError(f"--host is '{host}', which is no address. Use 127.0.0.1, or 0.0.0.0 for all.") from error
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ValueError(
            f"Nothing can listen at {host} port {port} ({error.strerror}). Choose another --port or --host, or end the "
            "program that uses it."
        ) from error
    return listener


def _serve(options: ServeCommand, names: list[str], key: str | None, listener: socket.socket) -> int:
    served = _load(options, names, key)
    server, ended = _http_server(served), threading.Event()

    def answer() -> None:
        try:
            server.run([listener])
        finally:
            ended.set()

    # In a thread, so that signals are ours: uvicorn would wait for every reply to end before it told anybody.
    thread = threading.Thread(target=answer, name="http", daemon=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        thread.start()
        say(_greeting(served, options.host, listener.getsockname()[1], options.max_batch), flush=True)
        ended.wait()  # not thread.join(): one that a signal interrupts takes the thread for dead (bpo-45274)
    except KeyboardInterrupt:
        return _stop(server, ended, [one.answering for one in served])
    tell("Error: The HTTP server ended by itself; the lines above say why.")
    return 1


def _load(options: ServeCommand, names: list[str], key: str | None) -> "list[Served]":
    from nanochat_core.checkpoint.fastest import dtype_asked
    from nanochat_core.checkpoint.sharing import load_models
    from nanochat_core.compute.devices import choose_device
    from nanochat_core.serve.answering import Answering  # here, because `serve --help` must not wait for torch
    from nanochat_core.serve.http import Served

    files = [find_model(name) for name in names]
    device = choose_device(options.device_type)
    models = load_models(files, device, dtype_asked(options.dtype, device, tell))
    return [
        Served(
            name=_public_name(name),
            created=int(one.weights.stat().st_mtime),
            context=model.config.sequence_len,
            tokenizer=tokenizer,
            answering=Answering(model, tokenizer, options.max_batch),
            facts={
                "parameters": str(sum(parameter.numel() for parameter in model.parameters())),
                "generation": model.config.generation,
                "dtype": options.dtype or str(model.compute_dtype).removeprefix("torch."),
                "device": str(model.device),
            },
            api_key=key,
            any_host=not is_loopback(options.host),
        )
        for name, one, (model, tokenizer) in zip(names, files, models)
    ]


def _http_server(served: "list[Served]") -> "uvicorn.Server":
    import uvicorn

    from nanochat_core.serve.http import build_app

    config = uvicorn.Config(
        build_app(*served),
        http="h11",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    return uvicorn.Server(config)


def _stop(server: "uvicorn.Server", ended: threading.Event, answering: "list[Answering]") -> int:
    unfinished = sum(one.open_requests() for one in answering)
    say(f"Stopping; unfinished replies that end here: {unfinished}.", flush=True)
    are_idle = [one.close(STOP_SECONDS / len(answering)) for one in answering]
    server.should_exit = True
    if not (ended.wait(STOP_SECONDS) and all(are_idle)):
        os._exit(0)  # the model is deep in a computation, or a caller does not take what was sent
    return 0


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _public_name(name: str) -> str:
    """What callers call the model: its NAME, or of a folder the last part: the way to it is nobody's business."""
    return name if name.partition("/")[0] in ("starter", "pretrained", "finetuned") else Path(name).resolve().name


def _greeting(served: "list[Served]", host: str, port: int, max_batch: int) -> str:
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    base = f"http://[{reachable}]:{port}/v1" if ":" in reachable else f"http://{reachable}:{port}/v1"
    body = json.dumps({"model": served[0].name, "messages": [{"role": "user", "content": "Hello!"}]})
    key = "" if served[0].api_key is None else f' -H "Authorization: Bearer ${KEY_VARIABLE}"'
    example = f"curl {base}/chat/completions{key} -d '{body}'"
    names = ", ".join(one.name for one in served)
    verb = "answers" if len(served) == 1 else "answer"
    return f"{names} {verb} at {base}, {max_batch} replies at once. Try: {example}"
