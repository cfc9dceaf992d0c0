"""One file a task: prompts, their contrasts, their answers, and the words in them that have a name."""
