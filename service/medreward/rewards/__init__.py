"""From signals to a reward or a grade; arithmetic alone."""
