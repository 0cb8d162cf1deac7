"""Compiled code: the C sources, and how they are built and loaded."""
