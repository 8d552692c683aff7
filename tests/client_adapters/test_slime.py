"""slime's custom reward, by a fake of slime.

slime is no package that could be installed here. `Sample`, `rewarded` and `normalised` are built
from its contract: how it calls a custom reward, with `--group-rm` and without, what it then reads
of a sample, and how it makes rewards of a group into advantages.
"""

import asyncio
import importlib
from dataclasses import dataclass, field
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest
from dirty_equals import IsPartialDict

from medreward_client import NoReward
from medreward_client.trainers.slime import custom_rm
from tests.client_adapters.told_service import RIGHT, UNJUDGED, WRONG, ToldService

PATH = "medreward_client.trainers.slime.custom_rm"


@dataclass
class Sample:
    """A fake of slime's sample, with the fields that a reward may read or set."""

    response: str
    label: Any = "left lower lobe"
    prompt: Any = "<|im_start|>user\nWhich lobe?<|im_end|>\n<|im_start|>assistant\n"
    group_index: int | None = 7
    reward: Any = None
    response_length: int = 5
    remove_sample: bool = False
    metadata: Any = field(default_factory=dict)


def args_of(service: ToldService, **more: Any) -> SimpleNamespace:
    """The arguments of slime, with those of the file of `--custom-config-path` among them."""
    named = {f"medreward_{name}": value for name, value in more.pop("options", {}).items()}
    switches = {"group_rm": True, "reward_key": None, "eval_reward_key": None} | more
    return SimpleNamespace(medreward_base_url=service.url, **named, **switches)


def rewarded(args: SimpleNamespace, *samples: Sample) -> list[Sample]:
    """Do as slime does: find the function by its path, call it for a group or for each, keep it."""
    module, _, name = PATH.rpartition(".")
    custom_rm = getattr(importlib.import_module(module), name)

    async def run() -> list[Any]:
        if args.group_rm:
            rewards: list[Any] = await custom_rm(args, list(samples))
            return rewards
        return await asyncio.gather(*(custom_rm(args, sample) for sample in samples))

    for sample, reward in zip(samples, asyncio.run(run()), strict=True):
        sample.reward = reward
    return list(samples)


def normalised(args: SimpleNamespace, samples: list[Sample]) -> list[float]:
    """Subtract the group's mean as slime does; removed samples have no loss."""
    key = args.reward_key
    rewards = [sample.reward[key] if key else sample.reward for sample in samples]
    return [
        0.0 if sample.remove_sample else reward - fmean(rewards)
        for sample, reward in zip(samples, rewards, strict=True)
    ]


@pytest.mark.parametrize("group_rm", [True, False])
def test_samples_get_their_rewards(service: ToldService, group_rm: bool) -> None:
    """A group at once or one by one, without the end token that slime leaves in the response."""
    args = args_of(service, group_rm=group_rm)
    right, wrong = rewarded(args, Sample(f"{RIGHT}<|im_end|>"), Sample(WRONG))

    assert (right.reward, wrong.reward) == (1.0, 0.145)
    assert (right.remove_sample, wrong.remove_sample) == (False, False)
    assert {sample["response"] for sample in service.samples} == {RIGHT, WRONG}


def test_a_sample_without_a_reward_leaves_the_others_as_they_are(service: ToldService) -> None:
    """It is out of the loss, and the baseline is what the others alone would have."""
    args = args_of(service)
    with_it = rewarded(args, Sample(RIGHT), Sample(WRONG), Sample(UNJUDGED))
    without = rewarded(args, Sample(RIGHT), Sample(WRONG))

    assert [sample.remove_sample for sample in with_it] == [False, False, True]
    assert normalised(args, with_it) == pytest.approx([*normalised(args, without), 0.0])


def test_a_group_without_any_reward_is_not_trained_on(service: ToldService) -> None:
    """All of it is removed, and its numbers are finite and equal."""
    args = args_of(service)
    samples = rewarded(args, Sample(UNJUDGED), Sample(UNJUDGED))

    assert all(sample.remove_sample for sample in samples)
    assert normalised(args, samples) == [0.0, 0.0]


def test_one_by_one_there_is_no_mean_to_stand_in(service: ToldService) -> None:
    """The trainer would count whatever number it got in the baseline of the others."""
    with pytest.raises(NoReward):
        rewarded(args_of(service, group_rm=False), Sample(UNJUDGED))


def test_a_sample_that_comes_without_its_group_gets_no_mean_of_it(service: ToldService) -> None:
    """With `--group-rm` too, since the mean of no samples would be a 0."""
    with pytest.raises(NoReward):
        asyncio.run(custom_rm(args_of(service), Sample(UNJUDGED)))


def test_what_is_imputed_is_removed_too(service: ToldService) -> None:
    """The number serves the baseline alone."""
    args = args_of(service, options={"on_unscored": "impute"})
    right, imputed = rewarded(args, Sample(RIGHT), Sample(UNJUDGED))

    assert (imputed.reward, imputed.remove_sample) == (1.0, True)
    assert (right.reward, right.remove_sample) == (1.0, False)


def test_a_zero_that_was_asked_for_is_trained_on(service: ToldService) -> None:
    """That is what the option says."""
    args = args_of(service, options={"on_unscored": "zero"})
    _, zero = rewarded(args, Sample(RIGHT), Sample(UNJUDGED))

    assert (zero.reward, zero.remove_sample) == (0.0, False)
    assert zero.metadata["medreward"]["scored"] == 0.0


def test_a_group_may_be_told_to_raise(service: ToldService) -> None:
    """For runs that would rather stop."""
    args = args_of(service, options={"on_unscored": "raise"})
    with pytest.raises(NoReward):
        rewarded(args, Sample(RIGHT), Sample(UNJUDGED))


def test_with_a_reward_key_the_reward_is_an_object(service: ToldService) -> None:
    """The object holds the reward under both names, and its components."""
    args = args_of(service, reward_key="score", eval_reward_key="accuracy")
    right, unjudged = rewarded(args, Sample(RIGHT), Sample(UNJUDGED))

    assert (right.reward["score"], right.reward["accuracy"], right.reward["scored"]) == (1, 1, 1)
    assert (unjudged.reward["score"], unjudged.reward["scored"]) == (1.0, 0.0)
    assert normalised(args, [right, unjudged]) == [0.0, 0.0]


def test_what_a_reward_is_made_of_stands_in_the_metadata(service: ToldService) -> None:
    """Numbers alone, for a log function of the user's own."""
    (sample,) = rewarded(args_of(service), Sample(WRONG, label="<X_RAY>left lower lobe"))

    assert sample.metadata["medreward"] == {
        "scored": 1.0,
        "accuracy_llm": 0.0,
        "accuracy_embed": 0.0,
        "format": 1.0,
        "modality": 1.0,
    }


@pytest.mark.parametrize(
    ("label", "metadata"),
    [
        ({"reference": "left", "question": "Which?", "modality": "X_RAY"}, {}),
        ('{"reference": "left", "question": "Which?", "modality": "X_RAY"}', {"question": "?"}),
        ("left", {"question": "Which?", "modality": "X_RAY"}),
        ("left", {"question": "Which?", "modality": "X_RAY", "rm_type": "custom"}),
        ({"reference": "left", "question": None, "modality": "X_RAY"}, {"question": "Which?"}),
    ],
)
def test_question_and_modality_are_the_labels_or_the_rows(
    service: ToldService, label: Any, metadata: Any
) -> None:
    """The label's come first; the prompt is never shown to the judge."""
    rewarded(args_of(service), Sample(RIGHT, label=label, metadata=metadata))

    (sample,) = service.samples
    assert sample == IsPartialDict(
        response=RIGHT, reference="left", question="Which?", modality="X_RAY", group="7"
    )


@pytest.mark.parametrize("odd", [{"metadata": None}, {"group_index": None}])
def test_a_sample_without_metadata_or_a_group_is_scored(
    service: ToldService, odd: dict[str, Any]
) -> None:
    """Custom generation makes them so."""
    (sample,) = rewarded(args_of(service), Sample(RIGHT, **odd))

    assert sample.reward == 1.0


def test_options_are_those_of_slimes_own_configuration(service: ToldService) -> None:
    """Each as `medreward_<option>`."""
    args = args_of(service, options={"recipe": "medix-r1", "run_id": "slime-8b"})
    rewarded(args, Sample(RIGHT))

    (body,) = service.bodies
    assert (body["recipe"], body["run"]) == ("medix-r1", IsPartialDict(id="slime-8b"))
