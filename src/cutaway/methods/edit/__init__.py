"""Can what the model knows be rewritten, and what else changes with it? Methods that return edited weights."""
