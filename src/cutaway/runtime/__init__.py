"""Running: where a method, a model and a task meet, with somebody watching."""
