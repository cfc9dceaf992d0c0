"""Opening networks: what is where in them, reading and writing it, running and generating."""
