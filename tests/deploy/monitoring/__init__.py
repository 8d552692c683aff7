"""Alerts and dashboard: by promtool, by a real Prometheus, and against a real service's metrics."""
