"""Rewards from the service: requests, waits, and errors that end a run."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from medreward_client import Criterion, Item, Judged
from medreward_client.pauses import Pauses
from medreward_trainer.config.config import Reward
from medreward_trainer.data.examples import Example
from medreward_trainer.data.prompts import Prompt
from medreward_trainer.errors import NoRewards, RewardsChanged, Stopped
from medreward_trainer.rollouts.rollout import Group, Rollout
from medreward_trainer.scoring import RewardSource, answer_of
from tests.client.listening import listening
from tests.trainer.standing_in import StandIn, scored, unscored

SHORT = Pauses(first_s=0.001, longest_s=0.01)
RUBRIC = (Criterion("Is rude.", -3.0), Criterion("Names the lobe.", 1.0))
EXAMPLE = Example("toy.jsonl:1", "Which lobe?", "left lower lobe", "X_RAY")


def group(*responses: str) -> Group:
    """Make a group of one prompt."""
    prompt = Prompt(EXAMPLE, "Which lobe?", (1, 2))
    return Group(prompt, tuple(Rollout((1,), text, is_cut=False) for text in responses))


class Source:
    """A source of rewards, and its messages."""

    def __init__(self, service: StandIn, *, pauses: Pauses = SHORT, **changed: Any) -> None:
        config = Reward(base_url=service.url, **{"patience_s": 3600, "deadline_s": 60, **changed})
        self.said: list[str] = []
        self.is_stopping = False
        self.rewards = RewardSource(
            config,
            run_id="toy",
            say=self.said.append,
            is_stopping=lambda: self.is_stopping,
            pauses=pauses,
        )

    def scores(self, *responses: str) -> list[float | None]:
        """Score one group."""
        pending = self.rewards.submit(group(*responses), step=3)
        (scores,) = self.rewards.collect([pending])
        return [score.reward for score in scores]


@pytest.fixture
def source(service: StandIn) -> Iterator[Source]:
    """Connect a source of rewards to the stand-in."""
    made = Source(service)
    with made.rewards:
        yield made


def test_a_sample_carries_all_that_the_service_can_use(source: Source, service: StandIn) -> None:
    """Question, reference, modality, group, run and step are sent with the response."""
    source.scores("<answer>left</answer>")

    (sample,) = service.samples
    assert sample["question"] == "Which lobe?"
    assert (sample["reference"], sample["modality"]) == ("left lower lobe", "X_RAY")
    assert sample["group"] == "toy.jsonl:1"
    assert service.asked[-1]["run"] == {"id": "toy", "step": 3}
    assert (sample["group_size"], sample["criteria"], sample["extra"]) == (1, None, {})


def test_rewards_may_be_below_zero(source: Source, service: StandIn) -> None:
    """They are those of the service, and so are their signals and unanswered criteria."""
    service.rule = lambda one: scored(float(one["response"]), rubric=-1.5) | {"unanswered": 2}

    pending = source.rewards.submit(group("-1.5", "0.5"), step=3)
    (scores,) = source.rewards.collect([pending])

    assert [(one.reward, one.unanswered) for one in scores] == [(-1.5, 2), (0.5, 2)]
    assert scores[0].components == {"rubric": -1.5}


def test_a_retry_that_fails_takes_no_reward_away(service: StandIn) -> None:
    """The others of a group are asked about again, and keep what they had."""
    again = iter(range(3))
    service.rule = lambda one: (
        scored(1.0)
        if one["response"] == "a" and next(again) == 0
        else unscored("judge_timeout", retryable=True)
    )
    made = Source(service, max_unscored_share=0.5, patience_s=0.05)

    with made.rewards:
        assert made.scores("a", "b") == [1.0, None]


def test_all_accepted_references_are_sent(source: Source, service: StandIn) -> None:
    """The service scores by the one that fits best."""
    example = replace(EXAMPLE, reference=("left lower lobe", "LLL"))
    prompt = Prompt(example, "Which lobe?", (1, 2))
    group = Group(prompt, (Rollout((1,), "<answer>LLL</answer>", is_cut=False),))
    source.rewards.collect([source.rewards.submit(group, step=3)])

    assert service.samples[0]["reference"] == ["left lower lobe", "LLL"]


def test_rewards_come_in_the_order_of_the_samples(source: Source, service: StandIn) -> None:
    """Other requests in flight do not change the order."""
    service.rule = lambda one: scored(float(one["response"]))

    assert source.scores("0.25", "0.5", "1.0") == [0.25, 0.5, 1.0]


@pytest.mark.parametrize(("is_retryable", "asked"), [(False, 3), (True, 3 + 3 * 3)])
def test_what_cannot_be_scored_has_no_reward(
    service: StandIn, *, is_retryable: bool, asked: int
) -> None:
    """It is None and not a zero: at once, or after a few attempts below max_unscored_share."""
    service.rule = lambda one: (
        unscored("judge_timeout", retryable=is_retryable) if one["response"] == "?" else scored(1.0)
    )
    made = Source(service, max_unscored_share=0.5)

    with made.rewards:
        assert made.scores("a", "?", "b") == [1.0, None, 1.0]
    assert len(service.samples) == asked


def test_what_may_pass_is_asked_about_again(source: Source, service: StandIn) -> None:
    """The whole group is retried, with a message: a signal may compare its samples."""
    failures = iter(["judge_timeout"])
    service.rule = lambda one: (
        unscored(kind, retryable=True)
        if one["response"] == "b" and (kind := next(failures, ""))
        else scored(1.0)
    )

    assert source.scores("a", "b", "c") == [1.0, 1.0, 1.0]
    assert [one["response"] for one in service.samples] == ["a", "b", "c"] * 2
    assert "1 of 3 samples have no reward (1 judge_timeout)" in source.said[0]


def test_many_failures_end_the_wait_in_words(service: StandIn) -> None:
    """After patience_s the message has the number, the kinds and a remedy."""
    service.rule = lambda _: unscored("judge_timeout", retryable=True)
    made = Source(service, patience_s=0.5)

    with made.rewards, pytest.raises(NoRewards, match=r"2 of 2 .*2 judge_timeout.*patience_s"):
        made.scores("a", "b")


def test_a_group_without_any_reward_ends_the_run_in_words(source: Source, service: StandIn) -> None:
    """If no sample can be scored, the message has the first reason."""
    service.rule = lambda _: unscored("invalid_reference", retryable=False)

    with pytest.raises(NoRewards, match=r"2 of 2 samples cannot be scored.*invalid_reference"):
        source.scores("a", "b")


def test_a_validation_that_cannot_be_scored_ends_no_run(source: Source, service: StandIn) -> None:
    """A recipe that compares the samples of a group has nothing to compare there."""
    service.rule = lambda _: unscored("group_not_whole", retryable=False)

    (scores,) = source.rewards.collect([source.rewards.submit(group("a"), step=None)])

    assert [(one.reward, one.error) for one in scores] == [(None, "group_not_whole")]


def test_a_sample_that_the_service_refuses_costs_itself_alone(
    source: Source, service: StandIn
) -> None:
    """The client finds it, and the others are scored."""
    answer = service.answer

    def refusing(path: str, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if any(one["response"] == "too large" for one in asked["samples"]):
            told = "samples[0].response: over the limit"
            return 422, {"error": {"kind": "invalid_sample", "message": told, "retryable": False}}
        return answer(path, asked)

    service.answer = refusing  # type: ignore[method-assign]  # the stand-in is told what to say

    assert source.scores("a", "too large", "b") == [1.0, None, 1.0]


def test_the_recipe_s_weights_are_known_once_the_service_is_ready(
    source: Source, service: StandIn
) -> None:
    """They come with the reply to an empty response, and so does the range."""
    service.range = (-2.0, 1.0)
    example = replace(EXAMPLE, modality=None, criteria=RUBRIC, extra={"language": "en"})
    source.rewards.wait_until_ready(example)

    probe, other = service.asked[-1]["samples"]
    assert probe == other
    assert probe["group_size"] == 2
    assert (probe["response"], probe["criteria"][0]["points"]) == ("", -3.0)
    assert (probe["extra"], probe["modality"]) == ({"language": "en"}, "OTHER")
    assert source.rewards.range == (-2.0, 1.0)
    assert source.said == ["rewards by the recipe medix-r1, from -2 to 1"]
    assert source.rewards.weights == {"accuracy_llm": 0.5}
    assert source.rewards.provenance is not None


def test_a_service_that_comes_late_is_waited_for(source: Source, service: StandIn) -> None:
    """A message says that it is not ready yet."""
    service.looks_while_loading = 1

    source.rewards.wait_until_ready(EXAMPLE)

    assert "not ready: it is loading" in source.said[0]


def test_a_service_that_never_gets_ready_is_given_up(service: StandIn) -> None:
    """The message has its last status, and the command that starts one."""
    service.health = "loading"
    made = Source(service, patience_s=0.4)

    with made.rewards, pytest.raises(NoRewards, match=r"it is loading.*medreward serve"):
        made.rewards.wait_until_ready(EXAMPLE)


def test_a_refusal_at_the_start_names_what_to_set(source: Source, service: StandIn) -> None:
    """An unknown recipe or a missing key ends the wait at once."""
    service.refusals = [404]

    with pytest.raises(NoRewards, match=r"reward\.recipe, and MEDREWARD_API_KEY"):
        source.rewards.wait_until_ready(EXAMPLE)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/reward", r"the URL ends in /reward.*give http://127\.0\.0\.1:\d+\."),
        ("/nowhere", r"something else answers, HTTP 404"),
    ],
)
def test_an_address_of_something_else_is_told_as_the_doctor_tells_it(path: str, found: str) -> None:
    """At once, with the key of the configuration."""
    with listening(Elsewhere) as url:
        rewards = RewardSource(Reward(base_url=url + path), run_id="toy", say=print)
        with rewards, pytest.raises(NoRewards, match=rf"reward\.base_url=.*{found}.*doctor"):
            rewards.wait_until_ready(EXAMPLE)


class Elsewhere(BaseHTTPRequestHandler):
    """A server that is none of ours."""

    def do_GET(self) -> None:
        """Know no path."""
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def test_a_key_that_no_header_can_hold_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of variables from Windows ends its lines in two characters; the key is not shown."""
    monkeypatch.setenv("MEDREWARD_API_KEY", "s3cret\r")

    with pytest.raises(NoRewards, match=r"reward\.base_url.*MEDREWARD_API_KEY") as caught:
        RewardSource(Reward(), run_id="toy", say=print)
    assert "s3cret" not in str(caught.value)


def test_a_blank_key_is_none(service: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that was left without a value stops no run."""
    monkeypatch.setenv("MEDREWARD_API_KEY", "")
    made = Source(service)

    with made.rewards:
        assert made.scores("a") == [1.0]


@pytest.mark.parametrize("is_pinned", [True, False])
def test_another_judge_ends_a_pinned_run(service: StandIn, *, is_pinned: bool) -> None:
    """The message names the setting to continue, since rewards of two judges cannot be compared."""
    made = Source(service, pinned=is_pinned)
    with made.rewards:
        made.rewards.wait_until_ready(EXAMPLE)
        service.origin = {"judge": "Qwen3-14B"}

        if is_pinned:
            with pytest.raises(
                RewardsChanged, match=r"judge was Qwen3-4B, is Qwen3-14B.*reward.pinned"
            ):
                made.scores("a")
        else:
            assert made.scores("a") == [1.0]


def test_a_wait_ends_when_the_run_is_to_stop(service: StandIn) -> None:
    """It ends in the middle of a pause of an hour."""
    service.rule = lambda _: unscored("judge_timeout", retryable=True)
    source = Source(service, pauses=Pauses(first_s=3600, longest_s=3600))
    threading.Timer(0.3, lambda: setattr(source, "is_stopping", True)).start()

    with source.rewards, pytest.raises(Stopped):
        source.scores("a")


def test_answers_are_judged(source: Source) -> None:
    """An item's score is the judge's."""
    (one,) = source.rewards.judge([Item("left lower lobe", "left lower lobe")])

    assert isinstance(one, Judged)
    assert one.score == 1.0


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("<answer> left </answer>", "left"),
        ("<answer>a</answer><answer>b</answer>", "a"),
        ("<answer>two\nlines</answer>", "two\nlines"),
        ("<answer>  </answer>", None),
        ("left", None),
        ("<answer>left", None),
    ],
)
def test_the_answer_is_what_stands_between_the_first_tags(
    response: str, answer: str | None
) -> None:
    """Empty tags count as a missing answer."""
    assert answer_of(response) == answer
