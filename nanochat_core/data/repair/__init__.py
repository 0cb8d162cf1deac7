"""Faulty data files: by which rules they are fixed."""
