"""The alerts, for Prometheus' rule files.

`SELECTOR` and `RUNBOOKS` stand in for what differs between deployments: which series are ours, and
where the pages are. Each alert has a page in docs/runbooks under its own name.
"""

from typing import Any, NamedTuple

import yaml

SELECTOR, RUNBOOKS = "__SELECTOR__", "__RUNBOOKS__"
SCORING = 'route=~"/reward|/judge|/verify|/compat/.*"'
OBJECTIVE = 0.995
"""Share of requests that are to be answered."""


class Alert(NamedTuple):
    """One alert; its expression names our series by `SELECTOR`."""

    name: str
    severity: str
    """`critical`: a training run stands still or learns wrongly. `warning`: it soon may. `info`."""
    wait: str
    """For how long it has to be so."""
    expr: str
    summary: str
    description: str


def _burn(short: str, long: str, times: float) -> str:
    limit = round(times * (1 - OBJECTIVE), 4)
    return " and ".join(
        f'sum(rate(medreward_http_requests_total{{{SELECTOR},{SCORING},code=~"5.."}}[{window}]))'
        f" / sum(rate(medreward_http_requests_total{{{SELECTOR},{SCORING}}}[{window}])) > {limit}"
        for window in (short, long)
    )


def _yes_share(window: str) -> str:
    return (
        f'sum(rate(medreward_verdicts_total{{{SELECTOR},verdict="yes"}}[{window}]))'
        f' / sum(rate(medreward_verdicts_total{{{SELECTOR},verdict=~"yes|no"}}[{window}]))'
    )


def _hit_share(window: str) -> str:
    return (
        f'sum(rate(medreward_cache_requests_total{{{SELECTOR},result="hit"}}[{window}]))'
        f' / sum(rate(medreward_cache_requests_total{{{SELECTOR},tier="memory"}}[{window}]))'
    )


ALERTS = (
    Alert(
        "MedrewardTargetDown",
        "critical",
        "3m",
        f"up{{{SELECTOR}}} == 0",
        "{{ $labels.instance }} cannot be scraped",
        "The process has gone, or its admin port cannot be reached from Prometheus.",
    ),
    Alert(
        "MedrewardNoReadyReplica",
        "critical",
        "2m",
        f"sum by (service) (medreward_ready{{{SELECTOR}}}) == 0"
        f" or absent(medreward_ready{{{SELECTOR}}})",
        "No replica of {{ $labels.service }} is ready",
        "Clients get 503 and wait; a training run stands still until their deadline.",
    ),
    Alert(
        "MedrewardEngineLost",
        "critical",
        "2m",
        f"(medreward_backend_ready{{{SELECTOR}}} == 0)"
        f" and (max_over_time(medreward_backend_ready{{{SELECTOR}}}[30m]) == 1)",
        "The {{ $labels.role }} of {{ $labels.instance }} no longer answers",
        "Samples that need it are unscored; they are no zeros.",
    ),
    Alert(
        "MedrewardModelLoadSlow",
        "warning",
        "1m",
        f"(medreward_backend_ready{{{SELECTOR}}} == 0)"
        f" and (max_over_time(medreward_backend_ready{{{SELECTOR}}}[1h]) == 0)"
        f" and on (instance) (time() - process_start_time_seconds{{{SELECTOR}}} > 1800)",
        "{{ $labels.instance }} has loaded its {{ $labels.role }} for half an hour",
        "A download that hangs, a slow disk, or too little memory.",
    ),
    Alert(
        "MedrewardErrorBudgetBurnFast",
        "critical",
        "2m",
        _burn("5m", "1h", 14.4),
        "Requests fail at 14 times the rate that a month allows",
        "More than 7 % of the requests of the last hour got a status of 500 or above.",
    ),
    Alert(
        "MedrewardErrorBudgetBurnSlow",
        "warning",
        "15m",
        _burn("30m", "6h", 6),
        "Requests fail at 6 times the rate that a month allows",
        "More than 3 % of the requests of the last six hours got a status of 500 or above.",
    ),
    Alert(
        "MedrewardUnscoredHigh",
        "critical",
        "5m",
        f'sum(rate(medreward_samples_total{{{SELECTOR},status=~"unscored|unjudged"}}[10m]))'
        f" / sum(rate(medreward_samples_total{{{SELECTOR}}}[10m])) > 0.02",
        "{{ $value | humanizePercentage }} of the samples have no score",
        "Trainers leave them out, so groups get smaller; medreward_unscored_total tells the kinds.",
    ),
    Alert(
        "MedrewardJudgeFailing",
        "warning",
        "10m",
        f'sum by (kind) (rate(medreward_unscored_total{{{SELECTOR},kind=~"judge_(unreachable|timeout)"}}[5m])) > 0',
        "Samples go without a verdict: {{ $labels.kind }}",
        "The judge does not answer, or not in time.",
    ),
    Alert(
        "MedrewardEmbedderFailing",
        "warning",
        "10m",
        f'sum by (kind) (rate(medreward_unscored_total{{{SELECTOR},kind=~"embedder_.*"}}[5m])) > 0',
        "Samples go without an embedding: {{ $labels.kind }}",
        "The embedder does not answer, or sends what is no vector.",
    ),
    Alert(
        "MedrewardJudgeExamFailed",
        "warning",
        "1m",
        f'min by (scope) (medreward_judge_exam{{{SELECTOR},status="failed"}}) >= 0',
        "The judge has failed its exam with a balanced accuracy of {{ $value | humanizePercentage }}",
        "It errs on plain pairs; a policy learns what it rewards by mistake.",
    ),
    Alert(
        "MedrewardJudgeUnparseableHigh",
        "warning",
        "10m",
        f'sum(rate(medreward_verdicts_total{{{SELECTOR},verdict="unparseable"}}[10m]))'
        f" / sum(rate(medreward_verdicts_total{{{SELECTOR}}}[10m])) > 0.01",
        "{{ $value | humanizePercentage }} of the judge's answers are neither YES nor NO",
        "A model, a chat template or a server that changed.",
    ),
    Alert(
        "MedrewardVerdictDrift",
        "warning",
        "30m",
        f"abs(({_yes_share('1h')}) - ({_yes_share('1d')})) > 0.15"
        f' and sum(increase(medreward_verdicts_total{{{SELECTOR},verdict=~"yes|no"}}[1h])) > 1000',
        "The share of YES is {{ $value | humanizePercentage }} from that of the last day",
        "A policy that learns moves slowly; a jump is another judge, another data set, or hacking.",
    ),
    Alert(
        "MedrewardQueueWaitHigh",
        "warning",
        "10m",
        "histogram_quantile(0.95, sum by (le, role) "
        f"(rate(medreward_queue_wait_seconds_bucket{{{SELECTOR}}}[5m]))) > 30",
        "Questions wait {{ $value | humanizeDuration }} for the {{ $labels.role }}",
        "There is more to ask than the engine answers.",
    ),
    Alert(
        "MedrewardAdmissionRejecting",
        "warning",
        "10m",
        f'sum(rate(medreward_admission_rejected_total{{{SELECTOR},reason="overloaded"}}[5m])) > 0',
        "Requests are turned away with 429",
        "Clients come again after Retry-After; the run is slower for it.",
    ),
    Alert(
        "MedrewardCacheBreakerOpen",
        "warning",
        "5m",
        f"max by (instance) (medreward_redis_breaker_open{{{SELECTOR}}}) == 1",
        "{{ $labels.instance }} goes on without Redis",
        "Nothing fails; replicas ask what others have asked, so engines have more to do.",
    ),
    Alert(
        "MedrewardCacheHitCollapse",
        "info",
        "30m",
        f"({_hit_share('30m')}) < 0.5 * ({_hit_share('1d')}) and ({_hit_share('1d')}) > 0.2",
        "Half as much is remembered as the day before",
        "A new engine identity, a Redis that was emptied, or a run whose answers differ more.",
    ),
    Alert(
        "MedrewardCacheWritesDropped",
        "info",
        "15m",
        f"sum by (reason) (rate(medreward_redis_writes_dropped_total{{{SELECTOR}}}[5m])) > 0",
        "Answers are not written to Redis: {{ $labels.reason }}",
        "They are asked again by other replicas.",
    ),
    Alert(
        "MedrewardRunAlert",
        "info",
        "0m",
        f"sum by (kind) (increase(medreward_run_alerts_total{{{SELECTOR}}}[15m])) > 0",
        "A training run looks odd: {{ $labels.kind }}",
        "GET /runs/<id> tells which step and why.",
    ),
)


def rules(selector: str, runbooks: str) -> dict[str, Any]:
    """Give the rules as Prometheus has them, for the series that *selector* picks."""
    made = [
        {
            "alert": alert.name,
            "expr": alert.expr.replace(SELECTOR, selector),
            "for": alert.wait,
            "labels": {"severity": alert.severity},
            "annotations": {
                "summary": alert.summary,
                "description": alert.description,
                "runbook_url": f"{runbooks}/{alert.name}.md",
            },
        }
        for alert in ALERTS
    ]
    return {"groups": [{"name": "medreward", "rules": made}]}


def as_yaml(selector: str, runbooks: str) -> str:
    """Write them as a file."""
    head = "# Written by `make docs` from deploy/monitoring/alerts.py.\n"
    return head + yaml.safe_dump(rules(selector, runbooks), sort_keys=False, width=1000)
