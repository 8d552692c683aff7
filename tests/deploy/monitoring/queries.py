"""Every query that is shipped, and the names in it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "medreward.json"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"

FILLED_IN = {"$__rate_interval": "30s", "$job": ".*", "$service": ".*", "$instance": ".*"}


def panels() -> list[dict[str, Any]]:
    """The dashboard's panels, without the headings."""
    read = json.loads(DASHBOARD.read_text("utf-8"))
    return [panel for panel in read["panels"] if panel["type"] != "row"]


def filled_in(expr: str) -> str:
    """A query as Prometheus gets it from Grafana."""
    for variable, value in FILLED_IN.items():
        expr = expr.replace(variable, value)
    return expr


def panel_queries() -> Iterator[tuple[str, str]]:
    """Each panel's queries, with its title."""
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], filled_in(target["expr"])


def alert_rules(file: Path = ALERTS) -> list[dict[str, Any]]:
    """The alerts in a file."""
    groups = yaml.safe_load(file.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def metrics_in(expr: str) -> set[str]:
    """The names of the metrics in a query."""
    return set(re.findall(r"\b(?:medreward|process)_[a-z0-9_]+\b", expr))
