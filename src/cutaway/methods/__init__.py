"""What can be asked of a network? One folder a question, one file a method."""
