"""Tokenized data: kept on disk, split, and ordered into the steps of a training."""
