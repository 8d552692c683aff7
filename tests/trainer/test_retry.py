"""Waits: their limit, their pauses and their messages."""

import time
from inspect import signature

import pytest

from medreward_client.pauses import Pauses
from medreward_trainer.errors import Stopped
from medreward_trainer.run.retry import Backoff


def test_patience_ends() -> None:
    """Its last pause is cut short, so that there is one more attempt at the very end."""
    said: list[str] = []
    patience = Backoff(
        0.3, say=said.append, is_stopping=lambda: False, pauses=Pauses(3600.0, 3600.0)
    )

    attempts = 0
    while patience.wait("no answer"):
        attempts += 1

    assert attempts == 1
    assert said == ["no answer; again in 0 s"]


def test_each_pause_is_twice_as_long_as_the_last() -> None:
    """The longest pause is the limit."""
    patience = Backoff(
        3600.0, say=lambda _: None, is_stopping=lambda: False, pauses=Pauses(0.01, 0.04)
    )
    pauses_s = []
    for _ in range(4):
        began = time.monotonic()
        assert patience.wait("no answer")
        pauses_s.append(time.monotonic() - began)

    # A busy machine makes them longer, and nothing makes them shorter.
    assert all(
        took >= least for took, least in zip(pauses_s, [0.01, 0.02, 0.04, 0.04], strict=True)
    )


def test_pauses_begin_at_a_second_and_double_to_a_minute() -> None:
    """These are the default pauses."""
    default = signature(Backoff).parameters["pauses"].default

    assert [default.doubled(times) for times in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_pause_ends_when_the_run_is_to_stop() -> None:
    """The pause does not run to its end first."""
    patience = Backoff(
        60.0, say=lambda _: None, is_stopping=lambda: True, pauses=Pauses(60.0, 60.0)
    )

    with pytest.raises(Stopped):
        patience.wait("no answer")
