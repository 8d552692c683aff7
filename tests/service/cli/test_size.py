"""`medreward size`: a table from numbers given, measured, or both."""

import json
import time

import httpx
import pytest

from tests.service.cli.conftest import Run
from tests.support.process import serving

GIVEN = (
    "size",
    "--samples",
    "4096",
    "--seconds",
    "20",
    "--judge-rate",
    "100",
    "--embed-rate",
    "500",
)


def test_a_table_tells_the_replicas_and_what_binds(run: Run) -> None:
    """4,096 questions in 18 s at 80 % of 100 a second are three judges."""
    told = run(*GIVEN)

    assert told.code == 0
    rows = {line.split()[0]: line.split() for line in told.stdout.splitlines() if line.strip()}
    assert rows["judge"][1] == "3"
    assert rows["embed"][1] == "1"
    assert "the judge takes longest" in told.stdout


def test_json_has_the_same(run: Run) -> None:
    """For scripts."""
    told = json.loads(run(*GIVEN, "--json").stdout)

    assert told["replicas"] == {"judge": 3, "embed": 1, "api": 2}
    assert told["binds"] == "judge"
    assert told["step_s"] <= 20


def test_without_a_rate_it_says_how_to_get_one(run: Run) -> None:
    """It makes no number up."""
    told = run("size", "--samples", "4096", "--seconds", "20")

    assert told.code == 2
    assert "--judge-rate and --embed-rate" in told.stderr
    assert "--metrics" in told.stderr


def test_metrics_that_cannot_be_had_are_named(run: Run) -> None:
    """With the address that was asked."""
    told = run("size", "--samples", "1", "--seconds", "1", "--metrics", "127.0.0.1:1")

    assert told.code == 1
    assert "http://127.0.0.1:1/metrics" in told.stderr


@pytest.mark.models
def test_what_a_service_measures_predicts_its_next_step(run: Run) -> None:
    """With real models: what is told of a step is within a factor of two of what a step takes."""

    def step(url: str, number: int) -> float:
        samples = [
            {"response": f"<answer>nodule of {number}{n} mm</answer>", "reference": "an effusion"}
            for n in range(100)
        ]
        started = time.perf_counter()
        reply = httpx.post(f"{url}/reward", json={"samples": samples}, timeout=120).json()
        assert reply["counts"]["unscored"] == 0
        return time.perf_counter() - started

    with serving(None) as service:
        step(service.url, 1)
        told = run(*("size", "--samples", "100", "--seconds", "600", "--json"),
                   *("--metrics", service.url))  # fmt: skip
        seen_s = step(service.url, 2)

    predicted = json.loads(told.stdout)
    assert predicted["replicas"] == {"judge": 1, "embed": 1, "api": 1}
    # On a CPU both engines share one thread, so that their times add up.
    told_s = predicted["seconds"]["judge"] + predicted["seconds"]["embed"]
    assert told_s / 2 <= seen_s <= told_s * 2


@pytest.mark.parametrize("option", ["--help"])
def test_help_shows_examples(run: Run, option: str) -> None:
    """That can be pasted."""
    told = run("size", option)

    assert "medreward size --samples 4096" in told.stdout
