"""The error classes as callers see them: hierarchy, pickling, privacy."""

import pickle
import traceback

import httpx
import pytest

from medreward_client import (
    BadReply,
    MedrewardError,
    NoReward,
    Overloaded,
    RequestRefused,
    TimedOut,
    TryAgain,
    Unavailable,
)
from tests.client.stand_in import (
    PATIENT_TEXT,
    SAMPLE,
    SCORED,
    UNSCORED,
    Ask,
    Handler,
    failing,
    replying,
    reward_body,
)


def family(error: type[MedrewardError]) -> list[type[MedrewardError]]:
    """List a tree of errors, its root first."""
    return [error, *(one for child in error.__subclasses__() for one in family(child))]


def test_the_tree_is_the_one_that_was_drawn() -> None:
    """Four classes say who can act, and three below TryAgain say why it was not now."""
    assert set(family(MedrewardError)) == {MedrewardError, RequestRefused, NoReward, BadReply} | {
        TryAgain,
        Overloaded,
        Unavailable,
        TimedOut,
    }
    assert set(family(TryAgain)) == {TryAgain, Overloaded, Unavailable, TimedOut}


@pytest.mark.parametrize("error", family(MedrewardError))
def test_an_error_can_be_built_from_its_message(error: type[MedrewardError]) -> None:
    """Trainers rebuild a worker's error from its message."""
    assert str(error("no judge")) == "no judge"


@pytest.mark.parametrize(
    "error",
    [
        *(error("no judge") for error in family(MedrewardError)),
        RequestRefused("no judge", kind="too_large", status=413, request_id="r-1"),
        Overloaded("no judge", retry_after_s=7.0),
        NoReward("no judge", counts={"judge_timeout": 3}),
    ],
    ids=repr,
)
def test_an_error_survives_pickling(error: MedrewardError) -> None:
    """A pickled error keeps its class, message and attributes."""
    copied = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes

    assert type(copied) is type(error)
    assert (copied.args, vars(copied)) == (error.args, vars(error))


COMPONENT = {"value": PATIENT_TEXT, "weight": 1.0, "source": "judge"}


@pytest.mark.anyio
@pytest.mark.parametrize(
    "handler",
    [
        failing(httpx.ConnectError),
        failing(httpx.ReadTimeout),
        replying(f"<html>{PATIENT_TEXT}</html>".encode()),
        replying(f'{{"results": ["{PATIENT_TEXT}'.encode()),
        replying({"detail": [{"input": PATIENT_TEXT}]}, status=422),
        replying({"error": {"kind": 3, "message": PATIENT_TEXT}}, status=422),
        replying(PATIENT_TEXT),
        replying({"results": PATIENT_TEXT}),
        replying(reward_body(SCORED | {"reward": PATIENT_TEXT})),
        replying(reward_body(SCORED | {"status": PATIENT_TEXT})),
        replying(reward_body(SCORED | {"components": {"format": COMPONENT}})),
        replying(reward_body(SCORED | {"id": PATIENT_TEXT})),
        replying(reward_body(UNSCORED | {"error": PATIENT_TEXT})),
    ],
)
async def test_patient_text_is_never_in_an_error(ask: Ask, handler: Handler) -> None:
    """Neither the message nor the traceback shows it, even if the reply quotes the request."""
    with pytest.raises(MedrewardError) as caught:  # noqa: PT012 - some is read when looked at
        reply = await ask(handler, lambda client: client.reward([SAMPLE]))
        _ = reply.results

    shown = "".join(traceback.format_exception(caught.value))
    assert PATIENT_TEXT not in shown
