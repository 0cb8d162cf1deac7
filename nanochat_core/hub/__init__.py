"""The Hugging Face hub: models and datasets to download, and what can go wrong."""

from nanochat_core.hub.downloading import download, repository_size

__all__ = ["download", "repository_size"]
