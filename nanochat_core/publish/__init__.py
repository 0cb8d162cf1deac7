"""A run on the Hugging Face hub."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nanochat_core.publish.publishing import publish

__all__ = ["publish"]


def __getattr__(name: str) -> Any:
    if name != "publish":
        raise AttributeError(f"module 'nanochat_core.publish' has no attribute '{name}'")
    from nanochat_core.publish.publishing import publish  # noqa: PLC0415  loads torch, which the other modules here do without

    return publish
