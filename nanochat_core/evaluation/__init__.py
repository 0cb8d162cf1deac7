"""How good a model is: losses, and answers to questions."""
