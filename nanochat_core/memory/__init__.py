"""How much memory a training needs, worked out from shapes alone: no weights, no GPU, no torch."""
