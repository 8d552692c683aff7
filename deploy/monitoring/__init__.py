"""What Prometheus and Grafana are given: alerts and dashboards, written by code and kept in the repository."""
