"""Waiting: it has an end, and says what for."""

import time

import pytest

from medreward_trainer.errors import Stopped
from medreward_trainer.run.retry import Patience, sleep


def test_patience_ends() -> None:
    """Its last pause is cut short, so that there is one more attempt at the very end."""
    said: list[str] = []
    patience = Patience(1.3, say=said.append, is_stopping=lambda: False)
    began = time.monotonic()

    attempts = 0
    while patience.wait("no answer"):
        attempts += 1

    assert attempts == 2
    assert 1.2 < time.monotonic() - began < 2.5
    assert said == ["no answer; again in 1 s", "no answer; again in 0 s"]


def test_a_pause_ends_when_the_run_is_to_stop() -> None:
    """At once, and not at its end."""
    with pytest.raises(Stopped):
        sleep(60.0, lambda: True)
