"""The dashboard, for Grafana: rows of panels, each with its queries and a sentence of what it shows.

A panel is a few lines here and sixty of JSON there, so this writes the JSON. Grafana's own library
for it knows every option, and needs more lines than these for each panel.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

SELECTOR = 'job=~"$job",service=~"$service",instance=~"$instance"'
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
ROW_HEIGHT = 8
COLUMNS = 24
Unit = Literal["short", "s", "percentunit", "reqps", "ops", "none", "currencyUSD", "bytes"]


class Panel(NamedTuple):
    """One panel."""

    title: str
    description: str
    queries: Mapping[str, str]
    """Each query, by the name of its lines."""
    unit: Unit = "short"
    kind: Literal["timeseries", "stat", "heatmap", "table"] = "timeseries"
    width: int = 8
    stacks: bool = False


class Row(NamedTuple):
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


def _rate(metric: str, by: str, more: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{{{SELECTOR}{more}}}[$__rate_interval]))"


def _quantiles(metric: str, by: str, *shares: float) -> dict[str, str]:
    inner = f"sum by (le, {by}) (rate({metric}_bucket{{{SELECTOR}}}[$__rate_interval]))"
    return {
        f"{{{{{by}}}}} p{share * 100:.0f}": f"histogram_quantile({share}, {inner})"
        for share in shares
    }


def _share(part: str, whole: str) -> str:
    return f"{part} / {whole}"


def _end(end: str) -> str:
    """Return the least or the greatest reward of each recipe."""
    return f'max by (recipe) (medreward_reward_range{{{SELECTOR},end="{end}"}})'


def _spread(metric: str) -> dict[str, str]:
    query = f"sum by (le) (increase({metric}_bucket{{{SELECTOR}}}[$__rate_interval]))"
    return {"{{le}}": query}


ROWS = (
    Row(
        "At a glance",
        (
            Panel(
                "Ready replicas",
                "Processes whose readiness says yes, by service.",
                {"{{service}}": f"sum by (service) (medreward_ready{{{SELECTOR}}})"},
                kind="stat",
                width=5,
            ),
            Panel(
                "Samples",
                "Samples and items answered a second.",
                {"samples": f"sum(rate(medreward_samples_total{{{SELECTOR}}}[$__rate_interval]))"},
                unit="ops",
                kind="stat",
                width=5,
            ),
            Panel(
                "Without a score",
                "Share of samples that are unscored or unjudged. They are no zeros: trainers leave them out.",
                {
                    "share": _share(
                        f'(sum(rate(medreward_samples_total{{{SELECTOR},status=~"unscored|unjudged"}}[$__rate_interval])) or vector(0))',
                        f"sum(rate(medreward_samples_total{{{SELECTOR}}}[$__rate_interval]))",
                    )
                },
                unit="percentunit",
                kind="stat",
                width=5,
            ),
            Panel(
                "YES",
                "Share of YES among the verdicts of the judge and of rules.",
                {
                    "YES": _share(
                        f'sum(rate(medreward_verdicts_total{{{SELECTOR},verdict="yes"}}[$__rate_interval]))',
                        f'sum(rate(medreward_verdicts_total{{{SELECTOR},verdict=~"yes|no"}}[$__rate_interval]))',
                    )
                },
                unit="percentunit",
                kind="stat",
                width=4,
            ),
            Panel(
                "Versions",
                "What runs where.",
                {"": f"medreward_build_info{{{SELECTOR}}}"},
                kind="table",
                width=5,
            ),
        ),
    ),
    Row(
        "Requests",
        (
            Panel(
                "Requests",
                "By route and status; 429 and 503 are tried again by clients.",
                {
                    "{{route}} {{code}}": _rate(
                        "medreward_http_requests_total",
                        "route, code",
                        ',route!~"/livez|/readyz|/startupz|/metrics"',
                    )
                },
                unit="reqps",
            ),
            Panel(
                "Duration",
                "From a request's first byte to its reply. A step of thousands of samples takes long by right.",
                _quantiles("medreward_http_request_duration_seconds", "route", 0.5, 0.99),
                unit="s",
            ),
            Panel(
                "In flight",
                "Requests, and the questions of all of them, that are let in and not yet answered.",
                {
                    "{{service}} requests": f"sum by (service) (medreward_inflight_requests{{{SELECTOR}}})",
                    "{{service}} questions": f"sum by (service) (medreward_inflight_questions{{{SELECTOR}}})",
                },
            ),
            Panel(
                "Time by stage",
                "95th percentile of what a request spent in each stage that it came to; judge and embed run side by side.",
                _quantiles("medreward_stage_duration_seconds", "stage", 0.95),
                unit="s",
            ),
            Panel(
                "Turned away",
                "Requests refused at the door, by reason.",
                {"{{reason}}": _rate("medreward_admission_rejected_total", "reason")},
                unit="reqps",
            ),
            Panel(
                "Draining",
                "Processes that were told to end and still answer.",
                {"{{service}}": f"sum by (service) (medreward_draining{{{SELECTOR}}})"},
            ),
        ),
    ),
    Row(
        "Rewards",
        (
            Panel(
                "Rewards",
                "How many rewards fell into each tenth of the recipe's range.",
                _spread("medreward_reward"),
                kind="heatmap",
            ),
            Panel(
                "Mean reward",
                "By recipe, in the recipe's own range.",
                {
                    "{{recipe}}": f"{_rate('medreward_reward_sum', 'recipe')} / {_rate('medreward_reward_count', 'recipe')}"
                    f" * on (recipe) ({_end('greatest')} - on (recipe) {_end('least')})"
                    f" + on (recipe) {_end('least')}"
                },
            ),
            Panel(
                "Components",
                "Mean of each signal before its weight, by recipe.",
                {
                    "{{recipe}} {{component}}": f"{_rate('medreward_component_sum', 'recipe, component')} / {_rate('medreward_component_count', 'recipe, component')}"
                },
            ),
            Panel(
                "How sure the judge is",
                "Logarithm of its odds of YES: a mass near 0 is a judge that guesses.",
                _spread("medreward_verdict_margin"),
                kind="heatmap",
            ),
            Panel(
                "Verdicts",
                "YES and NO, and what was neither.",
                {"{{verdict}}": _rate("medreward_verdicts_total", "verdict")},
                unit="ops",
                stacks=True,
            ),
            Panel(
                "Unscored",
                "Samples without a score, by the kind of problem.",
                {"{{kind}}": _rate("medreward_unscored_total", "kind")},
                unit="ops",
                stacks=True,
            ),
            Panel(
                "Judge against embedder",
                "Samples of training runs to which one of the two alone said yes. A jump is worth a look at the answers.",
                {"{{kind}}": _rate("medreward_judge_embedder_disagreement_total", "kind")},
                unit="ops",
            ),
            Panel(
                "Groups",
                "Groups of training runs, by whether their rewards differ; those that do not teach nothing.",
                {"{{variance}}": _rate("medreward_run_groups_total", "variance")},
                unit="ops",
                stacks=True,
            ),
            Panel(
                "Alerts about runs",
                "Raised in the last hour, by kind; /runs/<id> tells more.",
                {
                    "{{kind}}": f"sum by (kind) (increase(medreward_run_alerts_total{{{SELECTOR}}}[1h]))"
                },
            ),
            Panel(
                "Runs watched",
                "Training runs of which a report is kept.",
                {"runs": f"sum(medreward_runs_watched{{{SELECTOR}}})"},
            ),
        ),
    ),
    Row(
        "Engines",
        (
            Panel(
                "Engines that answer",
                "1 while an engine answers.",
                {
                    "{{service}} {{role}}": f"min by (service, role) (medreward_backend_ready{{{SELECTOR}}})"
                },
            ),
            Panel(
                "Queue",
                "Questions that wait for their batch.",
                {
                    "{{service}} {{role}}": f"sum by (service, role) (medreward_queue_depth{{{SELECTOR}}})"
                },
            ),
            Panel(
                "Wait",
                "How long a request's questions waited for their batch, at the longest.",
                _quantiles("medreward_queue_wait_seconds", "role", 0.5, 0.95),
                unit="s",
            ),
            Panel(
                "Batches",
                "Mean number of questions put to an engine at once.",
                {
                    "{{role}}": f"{_rate('medreward_batch_size_sum', 'role')} / {_rate('medreward_batch_size_count', 'role')}"
                },
            ),
            Panel(
                "Time of a batch",
                "What an engine took for one batch.",
                _quantiles("medreward_backend_request_duration_seconds", "role", 0.5, 0.99),
                unit="s",
            ),
            Panel(
                "Questions to the judge",
                "Put to it a second, after equal and remembered ones are gone.",
                {
                    "questions": f"sum(rate(medreward_judge_calls_total{{{SELECTOR}}}[$__rate_interval]))"
                },
                unit="ops",
            ),
            Panel(
                "Exam of the judge",
                "Balanced accuracy in its exam, by what it was examined in and the outcome.",
                {
                    "{{scope}} {{status}}": f"min by (scope, status) (medreward_judge_exam{{{SELECTOR}}})"
                },
                unit="percentunit",
            ),
            Panel(
                "Two engines",
                "Inquiries answered by the first and by the second, where there are two.",
                {"{{answered_by}}": _rate("medreward_cascade_inquiries_total", "answered_by")},
                unit="ops",
            ),
            Panel(
                "Time of two engines",
                "Seconds a second that each of two engines is at work.",
                {"{{answered_by}}": _rate("medreward_cascade_seconds_total", "answered_by")},
                unit="none",
            ),
            Panel(
                "Tokens of a judge behind a server",
                "As it counts them, by direction.",
                {"{{direction}}": _rate("medreward_judge_tokens_total", "direction")},
                unit="ops",
            ),
            Panel(
                "Cost",
                "In the money of the settings' prices, in the last hour.",
                {"cost": f"sum(increase(medreward_judge_cost_total{{{SELECTOR}}}[1h]))"},
                unit="none",
            ),
            Panel(
                "Prompt tokens of vLLM in this process",
                "Computed, or found in its prefix cache.",
                {"{{source}}": _rate("medreward_judge_prompt_tokens_total", "source")},
                unit="ops",
            ),
            Panel(
                "Models",
                "Which engine runs which model at which revision.",
                {"": f"medreward_model_info{{{SELECTOR}}}"},
                kind="table",
            ),
            Panel(
                "Loading",
                "Seconds it took to load and warm up.",
                {
                    "{{service}} {{role}}": f"max by (service, role) (medreward_model_load_seconds{{{SELECTOR}}})"
                },
                unit="s",
            ),
        ),
    ),
    Row(
        "What is remembered",
        (
            Panel(
                "Hits",
                "Share of look-ups that found something, by engine and tier. Redis is asked only what memory does not know.",
                {
                    "{{role}} {{tier}}": _share(
                        _rate("medreward_cache_requests_total", "role, tier", ',result="hit"'),
                        _rate("medreward_cache_requests_total", "role, tier"),
                    )
                },
                unit="percentunit",
            ),
            Panel(
                "Look-ups",
                "By tier and what came of them.",
                {"{{tier}} {{result}}": _rate("medreward_cache_requests_total", "tier, result")},
                unit="ops",
                stacks=True,
            ),
            Panel(
                "Redis",
                "Time of one round trip, also one that fails.",
                _quantiles("medreward_redis_operation_duration_seconds", "operation", 0.5, 0.99),
                unit="s",
            ),
            Panel(
                "Without Redis",
                "Processes that leave it alone for now.",
                {"{{service}}": f"sum by (service) (medreward_redis_breaker_open{{{SELECTOR}}})"},
            ),
            Panel(
                "Writes",
                "Answers that wait to be written, and those that were dropped a second.",
                {
                    "waiting": f"sum(medreward_redis_writes_waiting{{{SELECTOR}}})",
                    "dropped: {{reason}}": _rate("medreward_redis_writes_dropped_total", "reason"),
                },
            ),
            Panel(
                "Asked once among replicas",
                "Questions claimed, by what came of it.",
                {"{{result}}": _rate("medreward_single_flight_total", "result")},
                unit="ops",
            ),
        ),
    ),
    Row(
        "Processes",
        (
            Panel(
                "Log lines dropped",
                "Lines that nobody read, a second.",
                {"{{service}}": _rate("medreward_log_lines_dropped_total", "service")},
                unit="ops",
            ),
            Panel(
                "CPU",
                "Cores in use.",
                {
                    "{{service}} {{instance}}": f"rate(process_cpu_seconds_total{{{SELECTOR}}}[$__rate_interval])"
                },
                width=12,
            ),
            Panel(
                "Memory",
                "Resident; cached answers and texts, and what requests hold, are a part of it.",
                {
                    "{{service}} {{instance}}": f"process_resident_memory_bytes{{{SELECTOR}}}",
                    "{{service}} {{instance}}: {{role}}": f"medreward_answer_cache_bytes{{{SELECTOR}}}",
                    "{{service}} {{instance}}: texts": f"medreward_text_cache_bytes{{{SELECTOR}}}",
                    "{{service}} {{instance}}: requests": f"medreward_inflight_bytes{{{SELECTOR}}}",
                },
                unit="bytes",
                width=12,
            ),
        ),
    ),
)


def dashboard() -> dict[str, Any]:
    """Give the dashboard as Grafana has it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for row in ROWS:
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": top},
                "panels": [],
            }
        )
        top, left = top + 1, 0
        for panel in row.panels:
            if left + panel.width > COLUMNS:
                top, left = top + ROW_HEIGHT, 0
            place = {"h": ROW_HEIGHT, "w": panel.width, "x": left, "y": top}
            panels.append({"id": len(panels) + 1, "gridPos": place, **_panel(panel)})
            left += panel.width
        top += ROW_HEIGHT
    return {
        "uid": "medreward",
        "title": "medreward",
        "description": "Rewards, verdicts, engines and caches of medreward.",
        "tags": ["medreward"],
        "schemaVersion": 41,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": _variables()},
        "annotations": {"list": []},
        "panels": panels,
    }


def as_json() -> str:
    """Write it as a file."""
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


def _panel(panel: Panel) -> dict[str, Any]:
    is_table = panel.kind == "table"
    targets = [
        {
            "refId": chr(ord("A") + number),
            "datasource": DATASOURCE,
            "expr": expr,
            "legendFormat": legend,
            "format": {"table": "table", "heatmap": "heatmap"}.get(panel.kind, "time_series"),
            "instant": is_table or panel.kind == "stat",
            "range": not (is_table or panel.kind == "stat"),
        }
        for number, (legend, expr) in enumerate(panel.queries.items())
    ]
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _options(panel),
        **({"transformations": TABLE} if is_table else {}),
    }


TABLE = [
    {"id": "labelsToFields", "options": {}},
    {
        "id": "organize",
        "options": {
            "excludeByName": dict.fromkeys(
                ("Time", "Value", "__name__", "job", "endpoint", "container"), True
            )
        },
    },
]


def _defaults(panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "noValue": "nothing yet"}
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "fillOpacity": 20 if panel.stacks else 5,
            "lineWidth": 1,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacks else "none"},
        }
        defaults["min"] = 0
    if panel.unit == "percentunit":
        defaults |= {"min": 0, "max": 1}
    return defaults


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "stat":
        return {
            "colorMode": "none",
            "graphMode": "area",
            "reduceOptions": {"calcs": ["lastNotNull"]},
        }
    if panel.kind == "heatmap":
        return {
            "calculate": False,
            "cellGap": 1,
            "color": {"mode": "scheme", "scheme": "Blues"},
            "yAxis": {"unit": "none"},
        }
    if panel.kind == "table":
        return {"showHeader": True, "cellHeight": "sm"}
    return {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def _variables() -> list[dict[str, Any]]:
    found = [
        {
            "name": name,
            "type": "query",
            "datasource": DATASOURCE,
            "query": {"query": f"label_values({of}, {name})", "refId": name},
            "definition": f"label_values({of}, {name})",
            "refresh": 2,
            "includeAll": True,
            "allValue": ".*",
            "multi": True,
            "current": {"text": "All", "value": "$__all"},
        }
        for name, of in (
            ("job", "medreward_build_info"),
            ("service", 'medreward_build_info{job=~"$job"}'),
            ("instance", 'medreward_build_info{job=~"$job",service=~"$service"}'),
        )
    ]
    return [{"name": "datasource", "type": "datasource", "query": "prometheus"}, *found]
