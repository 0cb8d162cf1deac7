"""Text and conversations as token ids, and back."""

from nanochat_core.tokenizer.tokenizer import Tokenizer

__all__ = ["Tokenizer"]
