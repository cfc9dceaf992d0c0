"""Through which paths does the model do it? Methods that find and test circuits: sets of edges between parts."""
