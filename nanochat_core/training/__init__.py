"""Training: the loop, its optimizers, and what it saves."""
