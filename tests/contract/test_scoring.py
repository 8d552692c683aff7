"""What every trainer's adapter stands on, against the real app on a real socket."""

import asyncio
from collections.abc import Iterator

import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from medreward.app import create_app
from medreward.engines.embedders.hashed import HashedEmbedder
from medreward.engines.judge import Judgement
from medreward.engines.judges.scripted import ScriptedJudge
from medreward.errors import Problem, ProblemKind
from medreward.settings import Settings
from medreward_client import NoReward, RequestRefused, Sample
from medreward_client._batching import BATCH_SAMPLES
from medreward_client.scoring import OnUnscored, Outcome, Scorer, scorer
from tests.support.service import listening

YES = Judgement(("YES", "NO"), (0.75, 0.25), coverage=0.5)
LOST = Problem(ProblemKind.JUDGE_TIMEOUT, "no answer in time")
JUDGE = ScriptedJudge({("basal left", "left lower lobe"): YES, ("lost", "left lower lobe"): LOST})

RIGHT = Sample("<answer>basal left</answer>", "left lower lobe", group="p1")
WRONG = Sample("<answer>apex</answer>", "left lower lobe", group="p1")
LOSING = Sample("<answer>lost</answer>", "left lower lobe", group="p1")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Serve the app, with a judge that has no answer for one of the samples."""
    app = create_app(
        Settings(api_keys="s3cret", recipe="medix-r1"), judge=JUDGE, embedder=HashedEmbedder()
    )
    with listening(app) as server:
        yield f"http://127.0.0.1:{server.port}"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the key as an operator does."""
    monkeypatch.setenv("MEDREWARD_API_KEY", "s3cret")


def test_native_says_none_where_the_trainer_can_take_it(url: str) -> None:
    """The components that were had are there, and the reason."""
    right, lost = scorer(base_url=url).score_blocking([RIGHT, LOSING], says_none=True)

    assert right.scored
    assert right.reward == pytest.approx(right.reward)
    assert right.components["accuracy_llm"] == 1.0
    assert (lost.scored, lost.reward) == (False, None)
    assert lost.error is not None
    assert lost.error.kind == "judge_timeout"
    assert set(lost.components) == {"accuracy_embed", "format"}
    assert right.number == right.reward
    with pytest.raises(NoReward, match="no reward: judge_timeout: no answer in time"):
        _ = lost.number


def test_it_raises_where_the_trainer_or_the_user_cannot_take_it(url: str) -> None:
    """Never is there a number that nobody gave."""
    with pytest.raises(NoReward, match="judge_timeout 1") as caught:
        scorer(base_url=url).score_blocking([RIGHT, LOSING])
    with pytest.raises(NoReward):
        scorer(base_url=url, on_unscored="raise").score_blocking([LOSING], says_none=True)

    assert caught.value.counts == {"judge_timeout": 1}


@pytest.mark.parametrize(
    ("on_unscored", "lost_reward"), [("impute", pytest.approx(0.5175 / 0.955)), ("zero", 0.0)]
)
def test_a_number_is_put_in_only_where_somebody_asked_for_it(
    url: str, on_unscored: OnUnscored, lost_reward: float
) -> None:
    """And the outcome still says that it is not the service's own."""
    chosen = scorer(base_url=url, on_unscored=on_unscored)

    _, lost = chosen.score_blocking([RIGHT, LOSING], says_none=True)

    assert lost.reward == lost_reward
    assert not lost.scored


@pytest.mark.parametrize("on_unscored", ["native", "impute", "zero"])
def test_a_step_with_too_many_losses_is_stopped(url: str, on_unscored: OnUnscored) -> None:
    """Whatever is done about one of them."""
    chosen = scorer(base_url=url, on_unscored=on_unscored, max_unscored_share=0.1)

    with pytest.raises(NoReward, match=r"max_unscored_share=0\.1"):
        chosen.score_blocking([RIGHT] * 28 + [LOSING] * 4, step=3, says_none=True)


def test_a_service_that_is_away_leaves_samples_unscored() -> None:
    """After the deadline; it is the trainer's channel that says so, and no zero."""
    away = scorer(base_url="http://127.0.0.1:9", deadline_s=0.01, max_unscored_share=1.0)

    outcomes = away.score_blocking([RIGHT] * 70, says_none=True, step=1)

    kinds = {outcome.error.kind for outcome in outcomes if outcome.error}
    assert (kinds, {outcome.reward for outcome in outcomes}) == ({"service_unavailable"}, {None})


def test_of_a_large_step_only_what_was_lost_is_missing() -> None:
    """A request that fails takes the samples of no other along."""
    app = create_app(Settings(max_samples=BATCH_SAMPLES), judge=JUDGE, embedder=HashedEmbedder())
    asked = 0

    async def fail_the_second(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal asked
        if scope["type"] == "http" and scope["path"] == "/reward":
            asked += 1
            if asked == 2:
                await Response(status_code=500)(scope, receive, send)
                return
        await app(scope, receive, send)

    with listening(fail_the_second) as server:
        chosen = scorer(base_url=f"http://127.0.0.1:{server.port}", max_unscored_share=0.6)
        outcomes = chosen.score_blocking([RIGHT] * (BATCH_SAMPLES + 200), says_none=True)

    lost = [outcome for outcome in outcomes if not outcome.scored]
    assert len(lost) in {200, BATCH_SAMPLES}
    assert {outcome.reward for outcome in lost} == {None}


def test_a_sample_that_is_refused_costs_its_neighbours_nothing(url: str) -> None:
    """A row with a modality that no recipe knows is unscored, and says what is wrong with it."""
    odd = Sample("<answer>basal left</answer>", "left lower lobe", modality="XRAY")

    outcomes = scorer(base_url=url).score_blocking([RIGHT, odd, *[RIGHT] * 100], says_none=True)

    assert [n for n, outcome in enumerate(outcomes) if not outcome.scored] == [1]
    assert outcomes[1].error is not None
    assert outcomes[1].error.kind == "sample_refused"
    assert "modality" in outcomes[1].error.message


def test_a_refused_request_is_not_a_lost_sample(url: str) -> None:
    """A recipe that does not exist is the user's to mend, and no sample's fault."""
    with pytest.raises(RequestRefused, match="recipe"):
        scorer(base_url=url, recipe="none").score_blocking([RIGHT], says_none=True)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "give base_url, or set MEDREWARD_URL"),
        ({"base_url": "localhost:8080"}, "base_url must look like"),
        ({"on_unscored": "ignore"}, "choose from native, raise, impute, zero"),
        ({"max_unscored_share": 25}, "between 0 and 1"),
    ],
)
def test_options_that_cannot_be_are_refused_at_once(
    options: dict[str, object], complaint: str
) -> None:
    """Before a run begins, not at its first step."""
    with pytest.raises(ValueError, match=complaint):
        Scorer(**{"base_url": "http://rewards:8080"} | options if options else options)  # type: ignore[arg-type]


def test_a_process_has_one_scorer_for_the_same_options() -> None:
    """A reward function that is called thousands of times does not connect thousands of times."""
    one = scorer(base_url="http://rewards:8080", recipe="medix-r1")

    # Two halves of a step that count their losses apart would both miss an outage.
    assert scorer(recipe="medix-r1", base_url="http://rewards:8080", run_id=None) is one
    assert scorer(base_url="http://rewards:8080") is not one


def test_calls_with_few_samples_travel_together(url: str) -> None:
    """Async reward functions that score a sample each are gathered, whichever loop they run on."""
    chosen = scorer(base_url=url)

    async def score() -> list[list[Outcome]]:
        return await asyncio.gather(*(chosen.score([RIGHT]) for _ in range(40)))

    assert {outcome.reward for (outcome,) in asyncio.run(score())} == {
        chosen.score_blocking([WRONG, RIGHT])[1].reward
    }


@pytest.mark.parametrize("name", ["MEDREWARD_URL", "MEDREWARD_API_KEY"])
def test_another_environment_is_another_scorer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook that sets another address, or the right key, is not kept to the first."""
    monkeypatch.setenv("MEDREWARD_URL", "http://rewards:8080")
    one = scorer()

    monkeypatch.setenv(name, "http://others:8080")

    assert scorer() is not one
