"""One paper in one file: its claims, the recipe that tests them, and what came out. See `cutaway study list`."""
