"""What models are shown: tasks with contrasts, and plain text."""
