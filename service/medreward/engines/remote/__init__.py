"""Models behind HTTP: pools of servers, dialects, rate limits and costs."""
