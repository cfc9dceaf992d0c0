"""A method for cutaway from somebody else."""
