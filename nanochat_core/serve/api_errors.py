"""What a served model answers when it cannot answer: OpenAI's shape of an error, and a sentence in it."""

from typing import Any


class ApiError(ValueError):
    """A request that is refused or failed: what, where and the remedy, and what a program needs to tell it apart."""

    def __init__(self, status: int, sentence: str, code: str, param: str | None = None):
        """`status` is HTTP's, `code` OpenAI's word for the kind, `param` the field of the request that is at fault."""
        super().__init__(sentence)
        self.status, self.code, self.param = status, code, param

    def to_dict(self) -> dict[str, Any]:
        """The body of the answer."""
        return {
            "error": {"message": str(self), "type": _type(self.status), "param": self.param, "code": self.code},
        }


def _type(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"
