"""What the core of every adapter says of a service that changes, or fails."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from medreward_client import NoReward, Sample
from medreward_client.scoring import OnUnscored, Scorer
from medreward_client.trainers import areal, easyr1, openrlhf, slime, verifiers, verl
from tests.client.listening import listening
from tests.client_adapters.told_service import RANKED, RIGHT, ToldService

SAMPLE = Sample(RIGHT, "left lower lobe")


@pytest.fixture
def scorer(service: ToldService) -> Scorer:
    """A run's connection to the service."""
    return Scorer(base_url=service.url, deadline_s=60)


def test_a_service_that_changes_is_told_once(
    scorer: Scorer, service: ToldService, caplog: pytest.LogCaptureFixture
) -> None:
    """Both fingerprints are in the warning; replicas of two versions answer in turn."""
    caplog.set_level(logging.WARNING, "medreward_client")
    for fingerprint in ("sha256:1f", "sha256:2e", "sha256:1f", "sha256:2e"):
        service.origin = {"fingerprint": fingerprint}
        scorer.score_blocking([SAMPLE] * 2)

    (record,) = caplog.records
    assert "fingerprint 'sha256:1f', now 'sha256:2e'" in record.message


@pytest.mark.parametrize("is_variable", [True, False])
@pytest.mark.parametrize("changed", ["fingerprint", "judge", "embedder", "recipe"])
def test_a_pinned_run_stops_when_the_service_changes(
    service: ToldService, monkeypatch: pytest.MonkeyPatch, changed: str, *, is_variable: bool
) -> None:
    """By an option or a variable of the environment, until the former service is back."""
    if is_variable:
        monkeypatch.setenv("MEDREWARD_PINNED", "true")
    pinned = Scorer(base_url=service.url, pinned=None if is_variable else True, on_unscored="zero")
    pinned.score_blocking([SAMPLE])

    service.origin = {changed: "another"}
    for _ in range(2):
        with pytest.raises(NoReward, match=rf"{changed} '.*', now 'another'.*MEDREWARD_PINNED"):
            pinned.score_blocking([SAMPLE])
    service.origin = {}

    assert pinned.score_blocking([SAMPLE])[0].reward == 1.0


@pytest.mark.parametrize("on_unscored", get_args(OnUnscored))
def test_a_recipe_that_compares_groups_gives_no_number_without_them(
    service: ToldService, caplog: pytest.LogCaptureFixture, on_unscored: OnUnscored
) -> None:
    """Whatever replaces a missing reward; what to do is raised each time, and logged once."""
    scorer = Scorer(base_url=service.url, on_unscored=on_unscored)
    samples = [Sample(RIGHT, "left lower lobe"), Sample(RANKED, "left lower lobe")]
    for _ in range(2):
        with pytest.raises(NoReward, match=r"the signal group_rank .*: choose another recipe"):
            scorer.score_blocking(samples, says_none=True, ungrouped="choose another recipe")

    assert [record.levelname for record in caplog.records] == ["ERROR"]
    declared = replace(samples[1], group="g", group_size=1)
    assert scorer.score_blocking([declared])[0].reward == 0.5


def _verifiers(**options: Any) -> float:
    task = SimpleNamespace(key="k", data=SimpleNamespace(prompt_text="Which lobe?"))
    trace = SimpleNamespace(task=task, last_reply=RANKED, record_metrics=dict)
    return asyncio.run(verifiers.reward_of(trace, "left", **options))


def _slime(**options: Any) -> object:
    named = {f"medreward_{name}": value for name, value in options.items()}
    args = SimpleNamespace(group_rm=True, reward_key=None, **named)
    sample = SimpleNamespace(response=RANKED, label="left", metadata={}, group_index=1)
    return asyncio.run(slime.custom_rm(args, [sample]))


ADAPTERS: dict[str, Callable[..., object]] = {
    "AReaL": lambda **o: areal.reward_with(**o)("Which?", RANKED, [1], [1], answer="left"),
    "EasyR1": lambda **o: easyr1.compute_score([{"response": RANKED, "ground_truth": "left"}], **o),
    "OpenRLHF": lambda **o: openrlhf.reward_func([RANKED], [""], ["left"], **o),
    "verl": lambda **o: asyncio.run(verl.compute_score("d", RANKED, "left", {}, **o)),
    "verifiers": _verifiers,
    "slime": _slime,
}


@pytest.mark.parametrize("trainer", ADAPTERS)
def test_an_adapter_without_groups_names_its_trainer(service: ToldService, trainer: str) -> None:
    """At the first call, with the signal, and what to do."""
    with pytest.raises(NoReward, match=f"group_rank .*{trainer} does not pass whole groups"):
        ADAPTERS[trainer](base_url=service.url, on_unscored="impute")


def test_a_variable_that_is_neither_true_nor_false_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run that was to be pinned must not go on without it."""
    monkeypatch.setenv("MEDREWARD_PINNED", "ture")

    with pytest.raises(ValueError, match="MEDREWARD_PINNED=ture"):
        Scorer(base_url="http://rewards:8080")


class Broken(BaseHTTPRequestHandler):
    """A service that fails at each request."""

    def do_POST(self) -> None:
        """Fail."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def broken() -> Iterator[str]:
    """The address of such a service."""
    with listening(Broken) as url:
        yield url


@pytest.mark.parametrize("number", [4, 40])
def test_a_lost_step_names_its_reason(broken: str, number: int) -> None:
    """Status and address, however many samples there are, and each time the samples of the call."""
    batch = [{"response": RIGHT, "response_length": 1, "ground_truth": "left"}] * number

    for _ in range(3):
        with pytest.raises(NoReward, match=f"{number} of {number} samples") as caught:
            easyr1.compute_score(batch, base_url=broken)
        assert f"status 500, http_500: no reason given by {broken[7:]}" in str(caught.value)
        assert caught.value.counts == {"service_unavailable": number}
