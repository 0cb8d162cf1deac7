"""Conversations from a file: read, checked, fixed, measured and tokenized."""
