"""Waiting for engines: patient while they load, not for ever."""

import pytest

from medreward.cli.client import LoadingLimit, loading_text
from medreward.cli.terminal import CommandError
from medreward.engines.status import EngineState, Readiness


def engines(judge: str, embedder: str = "loading", *, status: str = "loading") -> Readiness:
    """What a service says of its two engines."""
    states = {
        role: EngineState(ready=message == "ready", model="m", message=message)
        for role, message in (("judge", judge), ("embedder", embedder))
    }
    return Readiness.model_validate({"status": status, "engines": states})


def test_loading_is_waited_for() -> None:
    """Silence is what an engine keeps that should answer; one that loads cannot."""
    limit = LoadingLimit(silence_s=0.0)

    limit.check(engines("loading"))
    limit.check(engines("loading"))


def test_loading_for_too_long_is_not() -> None:
    """Every wait has an end."""
    with pytest.raises(CommandError, match="still loading after 0 s"):
        LoadingLimit(loading_s=0.0).check(engines("loading"))


def test_silence_is_not_waited_for_long() -> None:
    """A remote engine that is away is named, with its reason."""
    limit = LoadingLimit(silence_s=0.0)
    limit.check(engines("the server cannot be reached (ConnectError)"))

    with pytest.raises(CommandError, match=r"^judge: the server cannot be reached"):
        limit.check(engines("the server cannot be reached (ConnectError)"))


def test_an_engine_that_came_back_is_forgiven() -> None:
    """Time is counted from the last sign of life."""
    limit = LoadingLimit(silence_s=0.0)
    limit.check(engines("the server cannot be reached (ConnectError)"))
    limit.check(engines("ready"))
    limit.check(engines("ready", "the server cannot be reached (ConnectError)"))


def test_a_failure_is_told_once_where_both_share_it() -> None:
    """The reason, and whom it concerns."""
    with pytest.raises(CommandError, match=r"^judge and embedder: no model$"):
        LoadingLimit().check(engines("no model", "no model", status="failed"))


def test_a_service_that_leaves_is_not_waited_for() -> None:
    """Draining ends in silence."""
    with pytest.raises(CommandError, match="the service is draining"):
        LoadingLimit().check(engines("ready", "ready", status="draining"))


@pytest.mark.parametrize(
    ("readiness", "said"),
    [
        (engines("loading"), "loading the embedder m"),
        (engines("loading", "ready"), "loading the judge m"),
        (engines("no reply", "ready"), "waiting for the judge: no reply"),
    ],
)
def test_the_engine_that_is_loaded_next_is_named(readiness: Readiness, said: str) -> None:
    """A spinner has room for one."""
    assert loading_text(readiness) == said
