"""Fill the tables of docs/monitoring.md from the code: alerts and metrics."""

import sys
from pathlib import Path

from deploy.monitoring.alerts import ALERTS
from prometheus_client.metrics_core import Metric

from medreward.telemetry.metrics import Metrics

PAGE = Path(__file__).parent / "monitoring.md"
HEADS = {
    "alerts": "| alert | severity | summary |\n|---|---|---|\n",
    "metrics": "| metric | labels | meaning |\n|---|---|---|\n",
}


def page() -> str:
    """Write the page with new tables."""
    text = PAGE.read_text("utf-8")
    for name, rows in {"alerts": _alerts(), "metrics": _metrics()}.items():
        before, head, rest = text.partition(HEADS[name])
        after = rest[rest.index("\n\n") :] if "\n\n" in rest else ""
        text = before + head + "\n".join(rows) + after
    return text


def _alerts() -> list[str]:
    return [
        f"| [{a.name}](runbooks/{a.name}.md) | {a.severity} | {_plain(a.summary)} |" for a in ALERTS
    ]


def _plain(summary: str) -> str:
    """Leave out what a template would fill in."""
    parts = summary.replace("{{ $value | humanizePercentage }}", "…")
    parts = parts.replace("{{ $value | humanizeDuration }}", "…")
    for label in ("instance", "service", "role", "kind", "reason"):
        parts = parts.replace(f"{{{{ $labels.{label} }}}}", f"*{label}*")
    return parts


def _metrics() -> list[str]:
    registry = Metrics().registry
    collectors = list(registry._collector_to_names)  # noqa: SLF001 - it has no public list
    rows = []
    for collector in collectors:
        labels = getattr(collector, "_labelnames", getattr(collector, "_labels", ()))
        families: list[Metric] = list(collector.collect())
        for family in families:
            if family.name.startswith("medreward_"):
                ending = "_total" if family.type == "counter" else ""
                shown = ", ".join(f"`{label}`" for label in labels)
                rows.append(f"| `{family.name}{ending}` | {shown} | {family.documentation} |")
    return sorted(rows)


if __name__ == "__main__":
    sys.stdout.write(page())
