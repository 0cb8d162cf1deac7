"""nanochat's checkpoints: read, loaded as a model, written."""

from nanochat_core.checkpoint.loading import load_model
from nanochat_core.checkpoint.reading import read_weights
from nanochat_core.checkpoint.writing import save_checkpoint

__all__ = ["load_model", "read_weights", "save_checkpoint"]
