"""A model behind HTTP or behind a pipe."""
