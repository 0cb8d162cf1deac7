"""A run, or two, as a page to attach to a decision: HTML and Markdown, complete in one file. Without torch."""
