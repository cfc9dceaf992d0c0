"""Pictures made of shapes, for pages and papers."""
