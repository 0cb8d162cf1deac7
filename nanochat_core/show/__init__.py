"""HTML for notebooks, and loss charts."""
