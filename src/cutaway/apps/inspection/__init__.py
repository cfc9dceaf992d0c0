"""Look into an opened model: quick answers for a page that is being read, each the size of what is in view."""
