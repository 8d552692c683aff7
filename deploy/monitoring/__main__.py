"""Writes alerts and dashboard to where Prometheus, Grafana and the chart read them."""

from pathlib import Path

from deploy.monitoring import alerts, dashboard

ROOT = Path(__file__).parents[2]


def files() -> dict[Path, str]:
    """Give every file and what has to stand in it."""
    for_chart = alerts.as_yaml(alerts.SELECTOR, alerts.RUNBOOKS)
    return {
        ROOT / "deploy/prometheus/alerts.yml": alerts.as_yaml(
            'job=~"medreward.*"', "docs/runbooks"
        ),
        ROOT / "deploy/grafana/dashboards/medreward.json": dashboard.as_json(),
        ROOT / "helm/medreward/files/alerts.yaml": for_chart,
        ROOT / "helm/medreward/files/dashboards/medreward.json": dashboard.as_json(),
    }


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, "utf-8")
