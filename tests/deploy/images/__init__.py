"""Images that are really built, and containers that really run: `make images`."""
