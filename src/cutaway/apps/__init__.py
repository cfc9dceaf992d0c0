"""Products built on methods."""
