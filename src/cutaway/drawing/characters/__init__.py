"""Pictures made of characters, for the terminal."""
