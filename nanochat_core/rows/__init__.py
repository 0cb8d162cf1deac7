"""Which rows: those of a file that contradict, repeat, leak or do not teach, and those that taught a reply."""
