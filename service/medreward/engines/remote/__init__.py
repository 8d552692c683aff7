"""Models behind HTTP: servers, their dialects, their limits and their costs."""
