"""Keeping: the one door between results and the disk."""
