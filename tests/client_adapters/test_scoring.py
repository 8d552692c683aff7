"""What the core of every adapter says of a service that changes, or fails."""

import logging
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from medreward_client import NoReward, Sample
from medreward_client.scoring import Scorer
from medreward_client.trainers import easyr1
from tests.client.listening import listening
from tests.client_adapters.told_service import RIGHT, ToldService

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
