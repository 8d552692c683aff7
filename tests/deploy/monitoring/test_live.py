"""A real Prometheus that scrapes a real service: panels show something, alerts come on and go."""

import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.deploy.helm.conftest import EVERY_VALUES, of_kind, rendered
from tests.deploy.monitoring.queries import ALERTS, alert_rules, metrics_in, panel_queries
from tests.programs import path_of
from tests.redis_servers import RedisServer, free_port
from tests.support.process import Service, serving
from tests.support.wait import wait_until

SUFFIXES = ("_bucket", "_sum", "_count", "_total")
NEED_MORE = {
    # Of a judge behind a server, of two engines, and of vLLM in this process.
    "Tokens of a judge behind a server",
    "Cost",
    "Time of two engines",
    "Two engines",
    # Of a judge that takes an exam.
    "Exam of the judge",
    "Prompt tokens of vLLM in this process",
    # Of trouble that a sound service does not have.
    "Turned away",
    "Unscored",
    "Alerts about runs",
}
"""Panels that stay empty for a service with one scripted judge and no trouble."""


def score_something(service: Service, number: int) -> None:
    """Send a step of a run: samples that are new, equal, malformed, and in groups."""
    said = "<X_RAY><thinking>hm</thinking><answer>{}</answer>"
    samples = [
        {
            "group": f"g{n // 4}",
            "response": said.format(f"finding {number} {n}") if n % 5 else "nothing",
            "reference": f"finding {n % 3}",
            "modality": "X_RAY",
        }
        for n in range(24)
    ]
    body = {"run": {"id": "r", "step": number}, "samples": samples}
    assert httpx.post(f"{service.url}/reward", json=body, timeout=30).status_code == 200
    item = {"reference": "effusion", "answer": f"an effusion {number}"}
    assert httpx.post(f"{service.url}/judge", json={"items": [item]}).status_code == 200


@pytest.fixture
def admin_port() -> int:
    """Where the service is scraped."""
    return free_port()


@pytest.fixture
def service(redis_server: RedisServer, admin_port: int) -> Iterator[Service]:
    """A service as a process, with a real Redis."""
    with serving(
        None, judge="scripted", embedder="hashed", admin_port=admin_port, redis_url=redis_server.url
    ) as running:
        yield running


def exposed(admin_port: int) -> set[str]:
    """The names of the metrics that a service has, whether or not there is a number yet."""
    text = httpx.get(f"http://127.0.0.1:{admin_port}/metrics").text
    return {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}


def is_exposed(name: str, names: set[str]) -> bool:
    """Whether a query's name is a metric, or one of the parts of one."""
    wholes = {name, *(name.removesuffix(suffix) for suffix in SUFFIXES)}
    return bool(wholes & names)


def test_every_name_in_a_query_is_a_metric_of_the_service(
    service: Service, admin_port: int
) -> None:
    """In panels, alerts, and what the chart scales by."""
    score_something(service, 1)
    names = exposed(admin_port)
    scaling = [
        trigger["metadata"]["query"]
        for values in EVERY_VALUES
        for scaled in of_kind(rendered(values), "ScaledObject")
        for trigger in scaled["spec"]["triggers"]
        if "query" in trigger["metadata"]  # others are the owner's own
    ]
    by_adapter = [
        metric["pods"]["metric"]["name"]
        for values in EVERY_VALUES
        for scaler in of_kind(rendered(values), "HorizontalPodAutoscaler")
        for metric in scaler["spec"]["metrics"]
        if "pods" in metric
    ]
    shipped = [expr for _, expr in panel_queries()] + [rule["expr"] for rule in alert_rules()]
    assert scaling
    assert by_adapter
    used = {name for expr in [*shipped, *scaling, *by_adapter] for name in metrics_in(expr)}

    assert {name for name in used if not is_exposed(name, names)} == set()


def test_every_metric_of_ours_is_on_the_dashboard(service: Service, admin_port: int) -> None:
    """What is counted can be seen, but for what only says how something was counted."""
    del service
    shown = {name for _, expr in panel_queries() for name in metrics_in(expr)}
    ours = {name for name in exposed(admin_port) if name.startswith("medreward_")}
    unseen = {
        "medreward_cascade_agreement_total"  # with a cascade that samples its second engine
    }

    missing = {
        name
        for name in ours
        if not any(name == s or s.startswith(name) for s in shown) and not name.endswith("_created")
    }
    assert missing <= unseen


class Prometheus:
    """A Prometheus of its own, that scrapes every second."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, **query: str) -> Any:
        """Ask its API."""
        address = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(address, timeout=10) as reply:
            return json.load(reply)["data"]

    def is_on(self, alert: str) -> bool:
        """Whether an alert is firing."""
        alerts = self.ask("alerts")["alerts"]
        return any(a["labels"]["alertname"] == alert and a["state"] == "firing" for a in alerts)

    def has_answer(self, expr: str) -> bool:
        """Whether a query gives any number at all; none does before Prometheus listens."""
        try:
            return bool(self.ask("query", query=expr)["result"])
        except OSError:
            return False


@contextmanager
def prometheus(admin_port: int, folder: Path) -> Iterator[Prometheus]:
    """Run one, with the shipped rules, whose waits are shortened."""
    rules = yaml.safe_load(ALERTS.read_text("utf-8"))
    for rule in rules["groups"][0]["rules"]:
        rule["for"] = "2s"
    (folder / "alerts.yml").write_text(yaml.safe_dump(rules), "utf-8")
    target = {"targets": [f"127.0.0.1:{admin_port}"], "labels": {"service": "api"}}
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["alerts.yml"],
        "scrape_configs": [{"job_name": "medreward", "static_configs": [target]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), "utf-8")
    port = free_port()
    command = [
        path_of("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,  # noqa: S603 - as installed
    ):
        try:
            running = Prometheus(f"http://127.0.0.1:{port}")
            wait_until(lambda: running.has_answer("medreward_build_info"))
            yield running
        finally:
            process.kill()


@pytest.mark.needs("prometheus")
def test_panels_show_something_and_alerts_come_and_go(
    service: Service, admin_port: int, tmp_path: Path
) -> None:
    """A service that scores fills every panel; one that dies is told of, until it is back."""
    with prometheus(admin_port, tmp_path) as watching:
        for number in range(8):
            score_something(service, number)
            time.sleep(1)
        titles = {title for title, _ in panel_queries()}
        filled = {title for title, expr in panel_queries() if watching.has_answer(expr)}
        quiet = [rule["alert"] for rule in alert_rules() if watching.is_on(rule["alert"])]

        service.kill()
        wait_until(lambda: watching.is_on("MedrewardTargetDown"))
        service.start()
        wait_until(lambda: not watching.is_on("MedrewardTargetDown"))

    assert titles - filled <= NEED_MORE
    assert quiet == []
