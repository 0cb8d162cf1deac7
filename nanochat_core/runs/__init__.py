"""A run is one directory: how it is started, watched, stopped and described."""

from nanochat_core.runs.run import Run

__all__ = ["Run"]
