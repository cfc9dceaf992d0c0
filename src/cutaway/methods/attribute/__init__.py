"""Which words matter? Methods that share a prediction out over the tokens before it."""
