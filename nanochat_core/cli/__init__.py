"""The commands of `python -m nanochat_core`, a module each."""
