"""Each alert by promtool's own unit tests: it comes on where it should, and not elsewhere."""

import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from deploy.monitoring.alerts import ALERTS

from tests.deploy.helm.conftest import of_kind, rendered
from tests.deploy.monitoring.queries import ALERTS as FILE
from tests.programs import path_of

LABELS = 'job="medreward",service="api",instance="one"'
IN_CHART = 'namespace="ns",service="t-medreward-api-metrics",instance="one",job="medreward"'


class Case(NamedTuple):
    """Series under which an alert is on, and others under which it is not; a step is a minute."""

    on: dict[str, str]
    off: dict[str, str]
    after: str = "2h"


def requests(code: str, route: str = "/reward") -> str:
    """The name of the series of requests."""
    return f'medreward_http_requests_total{{{LABELS},route="{route}",method="POST",code="{code}"}}'


def metric(name: str, labels: str = "") -> str:
    """The name of a series."""
    return f"medreward_{name}{{{LABELS}{',' if labels else ''}{labels}}}"


YES, NO = metric("verdicts_total", 'verdict="yes"'), metric("verdicts_total", 'verdict="no"')
HIT = metric("cache_requests_total", 'role="judge",tier="memory",result="hit"')
MISS = metric("cache_requests_total", 'role="judge",tier="memory",result="miss"')
STARTED = f"process_start_time_seconds{{{LABELS}}}"
JUDGE_READY = metric("backend_ready", 'role="judge"')
WAIT = 'role="judge"'

CASES = {
    "MedrewardTargetDown": Case({f"up{{{LABELS}}}": "0x120"}, {f"up{{{LABELS}}}": "1x120"}),
    "MedrewardNoReadyReplica": Case(
        {metric("ready"): "0x120"},
        {metric("ready"): "0x120", metric("ready").replace("one", "two"): "1x120"},
    ),
    "MedrewardEngineLost": Case({JUDGE_READY: "1x100 0x20"}, {JUDGE_READY: "0x120"}),
    "MedrewardModelLoadSlow": Case(
        {JUDGE_READY: "0x120", STARTED: "0x120"}, {JUDGE_READY: "1x20 0x100", STARTED: "7000x120"}
    ),
    "MedrewardErrorBudgetBurnFast": Case(
        {requests("200"): "0+90x120", requests("503"): "0+10x120"},
        {requests("200"): "0+99x120", requests("503"): "0+1x120"},
    ),
    "MedrewardErrorBudgetBurnSlow": Case(
        {requests("200"): "0+96x500", requests("500"): "0+4x500"},
        {requests("200"): "0+98x500", requests("500"): "0+2x500"},
        "8h",
    ),
    "MedrewardUnscoredHigh": Case(
        {
            metric("samples_total", 'status="scored"'): "0+97x120",
            metric("samples_total", 'status="unscored"'): "0+3x120",
        },
        {
            metric("samples_total", 'status="scored"'): "0+99x120",
            metric("samples_total", 'status="unjudged"'): "0+1x120",
        },
    ),
    "MedrewardJudgeFailing": Case(
        {metric("unscored_total", 'kind="judge_timeout"'): "0+1x120"},
        {metric("unscored_total", 'kind="judge_abstained"'): "0+1x120"},
    ),
    "MedrewardEmbedderFailing": Case(
        {metric("unscored_total", 'kind="embedder_unreachable"'): "0+1x120"},
        {metric("unscored_total", 'kind="judge_timeout"'): "0+1x120"},
    ),
    "MedrewardJudgeUnparseableHigh": Case(
        {YES: "0+98x120", metric("verdicts_total", 'verdict="unparseable"'): "0+2x120"},
        {YES: "0+995x120", metric("verdicts_total", 'verdict="unparseable"'): "0+5x120"},
    ),
    "MedrewardVerdictDrift": Case(
        {YES: "0+50x1440 72000+90x120", NO: "0+50x1440 72000+10x120"},
        {YES: "0+50x1440 72000+60x120", NO: "0+50x1440 72000+40x120"},
        "26h",
    ),
    "MedrewardQueueWaitHigh": Case(
        {
            metric("queue_wait_seconds_bucket", f'{WAIT},le="30"'): "0+1x120",
            metric("queue_wait_seconds_bucket", f'{WAIT},le="120"'): "0+10x120",
            metric("queue_wait_seconds_bucket", f'{WAIT},le="+Inf"'): "0+10x120",
        },
        {
            metric("queue_wait_seconds_bucket", f'{WAIT},le="30"'): "0+10x120",
            metric("queue_wait_seconds_bucket", f'{WAIT},le="120"'): "0+10x120",
            metric("queue_wait_seconds_bucket", f'{WAIT},le="+Inf"'): "0+10x120",
        },
    ),
    "MedrewardAdmissionRejecting": Case(
        {metric("admission_rejected_total", 'reason="overloaded"'): "0+1x120"},
        {metric("admission_rejected_total", 'reason="too_large"'): "0+1x120"},
    ),
    "MedrewardCacheBreakerOpen": Case(
        {metric("redis_breaker_open"): "1x120"}, {metric("redis_breaker_open"): "1x3 0x117"}
    ),
    "MedrewardCacheHitCollapse": Case(
        {HIT: "0+80x1440 115200+10x120", MISS: "0+20x1440 28800+90x120"},
        {HIT: "0+80x1440 115200+60x120", MISS: "0+20x1440 28800+40x120"},
        "26h",
    ),
    "MedrewardCacheWritesDropped": Case(
        {metric("redis_writes_dropped_total", 'reason="full"'): "0+1x120"},
        {metric("redis_writes_dropped_total", 'reason="full"'): "5x120"},
    ),
    "MedrewardJudgeExamFailed": Case(
        {metric("judge_exam", 'scope="answers",status="failed"'): "0.52x120"},
        {metric("judge_exam", 'scope="answers",status="passed"'): "0.83x120"},
    ),
    "MedrewardRunAlert": Case(
        {metric("run_alerts_total", 'kind="length"'): "0x118 1x2"},
        {metric("run_alerts_total", 'kind="length"'): "1x120"},
    ),
}


def promtool(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run promtool."""
    return subprocess.run(  # noqa: S603 - promtool, as installed
        [path_of("promtool"), *arguments], capture_output=True, text=True, timeout=300, check=False
    )


def come_on(
    rules: dict[str, Any], name: str, series: dict[str, str], after: str, folder: Path
) -> bool:
    """Whether promtool says that an alert is on, of a file of rules.

    The file has that alert alone: promtool would evaluate all of them at each minute of a day.
    """
    seconds = {"h": 3600, "m": 60}[after[-1]] * int(after[:-1])
    (rule,) = [
        rule for group in rules["groups"] for rule in group["rules"] if rule["alert"] == name
    ]
    alone = folder / "rules.yml"
    alone.write_text(yaml.safe_dump({"groups": [{"name": "alone", "rules": [rule]}]}), "utf-8")
    test = {
        "rule_files": [str(alone)],
        # A day is long: five minutes between evaluations are enough for its rules.
        "evaluation_interval": "1m" if seconds <= 7200 else "5m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": s, "values": v} for s, v in series.items()],
                # promtool tells that an alert is on by refusing the claim that none is.
                "alert_rule_test": [
                    {"eval_time": f"{seconds}s", "alertname": name, "exp_alerts": []}
                ],
            }
        ],
    }
    file = folder / "test.yml"
    file.write_text(yaml.safe_dump(test), "utf-8")
    told = promtool("test", "rules", str(file))
    assert "parse error" not in told.stdout + told.stderr, told.stderr
    return told.returncode != 0


def test_every_alert_has_a_case() -> None:
    """None is shipped untried."""
    assert CASES.keys() == {alert.name for alert in ALERTS}


@pytest.mark.needs("promtool")
@pytest.mark.parametrize("name", CASES)
def test_an_alert_comes_on_where_it_should_and_not_elsewhere(name: str, tmp_path: Path) -> None:
    """By the file that Prometheus reads beside Compose."""
    case = CASES[name]
    rules = yaml.safe_load(FILE.read_text("utf-8"))

    assert come_on(rules, name, case.on, case.after, tmp_path)
    assert not come_on(rules, name, case.off, case.after, tmp_path)


@pytest.mark.needs("promtool")
@pytest.mark.parametrize("name", CASES)
def test_the_charts_alerts_do_the_same(name: str, tmp_path: Path) -> None:
    """As the operator would hand them to Prometheus, for the release's own series alone."""
    (rule,) = of_kind(rendered("production.yaml"), "PrometheusRule")
    case = CASES[name]

    def in_chart(series: dict[str, str]) -> dict[str, str]:
        return {key.replace(LABELS, IN_CHART): value for key, value in series.items()}

    assert come_on(rule["spec"], name, in_chart(case.on), case.after, tmp_path)
    if name != "MedrewardNoReadyReplica":  # that nothing of the release is there is news
        assert not come_on(rule["spec"], name, case.on, case.after, tmp_path)


@pytest.mark.needs("promtool")
def test_the_rules_are_sound() -> None:
    """Names, durations and templates."""
    checked: Any = promtool("check", "rules", str(FILE))

    assert checked.returncode == 0, checked.stdout + checked.stderr
