"""Waits: their limit, their pauses and their messages."""

import time
from inspect import signature

import pytest

from medreward_client.pauses import Pauses
from medreward_trainer.errors import Stopped
from medreward_trainer.run.retry import Backoff


def backoff(seconds: float, pauses: Pauses, *, said: list[str], stops: bool = False) -> Backoff:
    """Make a series of pauses whose messages are collected."""
    return Backoff(seconds, say=said.append, is_stopping=lambda: stops, pauses=pauses)


def test_patience_ends() -> None:
    """Its last pause is cut short, so that there is one more attempt at the very end."""
    said: list[str] = []
    patience = backoff(0.3, Pauses(3600.0, 3600.0), said=said)

    assert [patience.wait("no answer") for _ in range(2)] == [True, False]
    assert said == ["no answer; again in 0 s"]


def test_each_pause_is_twice_as_long_as_the_last() -> None:
    """The longest pause is the limit."""
    patience = backoff(3600.0, Pauses(0.01, 0.04), said=[])
    for least_s in (0.01, 0.02, 0.04, 0.04):
        began = time.monotonic()
        assert patience.wait("no answer")
        # A busy machine makes a pause longer, and nothing makes it shorter.
        assert time.monotonic() - began >= least_s


def test_pauses_begin_at_a_second_and_double_to_a_minute() -> None:
    """These are the default pauses."""
    default = signature(Backoff).parameters["pauses"].default

    assert [default.doubled(times) for times in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_pause_ends_when_the_run_is_to_stop() -> None:
    """The pause does not run to its end first."""
    patience = backoff(60.0, Pauses(60.0, 60.0), said=[], stops=True)

    with pytest.raises(Stopped):
        patience.wait("no answer")
