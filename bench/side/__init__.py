"""The workers: one script per side, each run by the interpreter of the environment that it measures."""
