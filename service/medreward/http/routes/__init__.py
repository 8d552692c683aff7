"""Routes of docs/api.md, probes, and the routes of a judge or embedder process."""
