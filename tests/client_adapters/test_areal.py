"""AReaL's reward function, in processes as AReaL runs it.

AReaL is not installed here: `call_as_areal` is a fake, built from the contract in its source. It
runs the function in a pool of processes, with the response and the row as AReaL passes them.
"""

import multiprocessing
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import pytest

from medreward_client import NoReward
from medreward_client.trainers.areal import reward, reward_with
from tests.client_adapters.told_service import RIGHT, UNJUDGED, WRONG, ToldService

ROW = {"messages": [{"role": "user", "content": "?"}], "answer": "left lower lobe"}


# From Python 3.12 on a fork of a process with threads warns; AReaL's has them too.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture(params=["fork", "spawn"])
def pool(request: pytest.FixtureRequest) -> Iterator[ProcessPoolExecutor]:
    """Processes, started in either way."""
    how = multiprocessing.get_context(request.param)
    with ProcessPoolExecutor(max_workers=2, mp_context=how) as pool:
        yield pool


def call_as_areal(
    function: Callable[..., float], response: str, **row: object
) -> Callable[[], float]:
    """Bind the arguments as AReaL's wrapper does: four by position, the row by name."""
    return partial(function, "the prompt", response, [1, 2], [3, 4], **(ROW | row))


def test_responses_are_scored_in_other_processes(
    service: ToldService, pool: ProcessPoolExecutor
) -> None:
    """The function goes there by pickle, and a float comes back."""
    function = reward_with(base_url=service.url)
    pending = [pool.submit(call_as_areal(function, one)) for one in (RIGHT, WRONG, RIGHT)]

    assert [one.result() for one in pending] == [1.0, 0.145, 1.0]


def test_it_works_in_a_fork_of_a_process_that_has_scored(service: ToldService) -> None:
    """A forked child uses neither threads nor connections of its parent."""
    function = reward_with(base_url=service.url)
    assert call_as_areal(function, RIGHT)() == 1.0

    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        assert pool.submit(call_as_areal(function, WRONG)).result() == 0.145


def test_a_response_without_a_reward_raises_in_areals_process(
    service: ToldService, pool: ProcessPoolExecutor
) -> None:
    """The error comes back as it was raised; AReaL asks again, then leaves the group out."""
    function = reward_with(base_url=service.url)

    with pytest.raises(NoReward):
        pool.submit(call_as_areal(function, UNJUDGED)).result()


def test_special_tokens_at_the_end_are_cut_off(service: ToldService) -> None:
    """AReaL decodes with them, and after `</answer>` they would be a malformed response."""
    function = reward_with(base_url=service.url)
    call_as_areal(function, f"{RIGHT}<|im_end|>\n<|endoftext|>")()
    call_as_areal(function, f"{WRONG}</s>")()

    assert [one["response"] for one in service.samples] == [RIGHT, WRONG]


def test_columns_can_be_named(service: ToldService) -> None:
    """Data sets call the reference by many names; a column may also be called like an option."""
    function = reward_with(base_url=service.url, reference="solution", question="problem")
    call_as_areal(
        function, RIGHT, solution="LLL", problem="Which?", base_url="http://x", prompt=1
    )()

    assert [(one["reference"], one["question"]) for one in service.samples] == [("LLL", "Which?")]


def test_a_deadline_above_areals_own_is_refused() -> None:
    """A call that AReaL gives up on ends as a 0."""
    with pytest.raises(ValueError, match="at most 13, since AReaL waits 15"):
        reward_with(deadline_s=15.0)


def test_the_deadline_is_below_areals_own(service: ToldService) -> None:
    """Without being told, it is 12 of the 15 seconds."""
    call_as_areal(reward_with(base_url=service.url), RIGHT)()

    assert 0 < service.bodies[0]["deadline_ms"] <= 12_000


def test_the_plain_function_takes_all_from_the_environment(
    service: ToldService, pool: ProcessPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AReaL can be given its import path alone."""
    monkeypatch.setenv("MEDREWARD_URL", service.url)
    assert pickle.loads(pickle.dumps(reward)) is reward  # noqa: S301 - our own
    assert pool.submit(call_as_areal(reward, RIGHT)).result() == 1.0
