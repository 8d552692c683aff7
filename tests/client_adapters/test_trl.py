"""TRL's reward functions on a running service; tests/real_trainers drives TRL itself."""

import asyncio
import logging
import pickle
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medreward_client import NoReward, RequestRefused
from medreward_client.trainers._signals import Component
from medreward_client.trainers.trl import AsyncRewardFunc, Rewards, make_reward_funcs
from tests.client_adapters.conftest import SCORED, UNSCORED
from tests.client_adapters.told_service import RANKED, RIGHT, ToldService

pytestmark = pytest.mark.anyio

STATE = SimpleNamespace(global_step=7)


def response(answer: str) -> str:
    """Write a response."""
    return f"<thinking>Seen.</thinking><answer>{answer}</answer>"


def batch(*answers: str, **columns: list[Any]) -> dict[str, Any]:
    """Build the arguments of TRL's call: plain text, and the data set's columns."""
    return {
        "prompts": ["Which lobe?"] * len(answers),
        "completions": [response(answer) for answer in answers],
        "completion_ids": [[1]] * len(answers),
        "reference": ["Left lower lobe"] * len(answers),
        "trainer_state": STATE,
        **columns,
    }


def made(url: str, components: Sequence[Component] = (), **options: Any) -> list[AsyncRewardFunc]:
    """Make reward functions that bear any share of failures: all tests' samples count together."""
    return make_reward_funcs(components, base_url=url, max_unscored_share=1.0, **options)


async def called(funcs: list[AsyncRewardFunc], **given: Any) -> list[Rewards]:
    """Call reward functions as TRL does: all at once."""
    return list(await asyncio.gather(*(func(**given) for func in funcs)))


async def test_a_sample_without_a_reward_is_none(url: str) -> None:
    """None and not 0; its neighbours keep their rewards."""
    funcs = made(url)

    (rewards,) = await called(funcs, **batch(SCORED, UNSCORED, "right lower lobe"))

    assert rewards == [pytest.approx(0.64660, abs=1e-4), None, pytest.approx(0.10471, abs=1e-4)]


async def test_conversations_are_read_as_plain_text_is(url: str) -> None:
    """The response is the last message of the assistant, with or without parts."""
    plain = batch(SCORED, "right lower lobe")
    parts = [{"type": "image"}, {"type": "text", "text": response("right lower lobe")}]
    turns = {
        "prompts": [[{"role": "user", "content": "Which lobe?"}]] * 2,
        "completions": [
            [
                {"role": "assistant", "tool_calls": []},
                {"role": "tool", "content": "zoomed"},
                {"role": "assistant", "content": response(SCORED)},
            ],
            [{"role": "assistant", "content": parts}],
        ],
    }
    funcs = made(url)

    assert await called(funcs, **plain | turns) == await called(funcs, **plain)


async def test_components_share_one_request(url: str) -> None:
    """However many functions, each sample is scored once; an unscored one has no component."""
    names = ["accuracy_llm", "accuracy_embed", "modality", "format"]
    funcs = made(url, ["accuracy_llm", "accuracy_embed", "modality", "format"])
    before = samples_scored(url)

    rewards = await called(funcs, **batch(SCORED, UNSCORED))

    assert dict(zip(names, rewards, strict=True)) == {
        "accuracy_llm": [1.0, None],
        "accuracy_embed": [0.0, None],
        "modality": [None, None],
        "format": [1.0, None],
    }
    assert samples_scored(url) - before == 2


def samples_scored(url: str) -> float:
    """Ask the service how many samples it has answered."""
    with urllib.request.urlopen(f"{url}/metrics") as reply:  # noqa: S310 - our own address
        lines = reply.read().decode().splitlines()
    return sum(
        float(line.split()[-1]) for line in lines if line.startswith("medreward_samples_total{")
    )


@pytest.mark.parametrize("name", ["medreward", "medreward_accuracy_llm"])
async def test_functions_reach_another_process_under_their_names(url: str, name: str) -> None:
    """They can be pickled, and are told apart by name, before and after."""
    components = {"medreward": [], "medreward_accuracy_llm": ["accuracy_llm"]}[name]
    (func,) = made(url, components)  # type: ignore[arg-type]

    arrived = pickle.loads(pickle.dumps(func))  # noqa: S301 - our own

    assert arrived.__name__ == arrived.func.__name__ == name
    assert await called([arrived], **batch(SCORED)) == await called([func], **batch(SCORED))


async def test_components_are_logged_where_trl_offers_it(url: str) -> None:
    """Columns for the table and means for the charts: the same names whatever was had, no text."""
    columns: dict[str, list[Any]] = {}
    means: dict[str, float] = {}
    funcs = made(url, ["accuracy_llm", "format"])

    await called(
        funcs,
        log_extra=columns.__setitem__,
        log_metric=means.__setitem__,
        **batch(SCORED, UNSCORED),
    )

    assert means.pop("medreward/modality") != means.pop("medreward/accuracy_embed")
    assert means == {
        "medreward/unscored": 0.5,
        "medreward/accuracy_llm": 1.0,
        "medreward/format": 1.0,
    }
    assert columns == {
        "medreward/error": [None, "judge_refused"],
        "medreward/accuracy_llm": [1.0, None],
        "medreward/accuracy_embed": [0.0, 0.0],
        "medreward/modality": [None, None],
        "medreward/format": [1.0, 1.0],
    }


def ten(completions: list[str], **_: Any) -> list[float]:
    """Reward everything, as a user's function might."""
    return [10.0] * len(completions)


async def ten_later(completions: list[str], **_: Any) -> list[float]:
    """Do so in async."""
    return [10.0] * len(completions)


async def test_a_function_beside_ours_has_no_say_where_we_have_none(url: str) -> None:
    """Else TRL would add up the rest, and our failure would count as a 0."""
    funcs = made(url, beside=[ten, ten_later])

    rewards = await called(funcs, **batch(SCORED, UNSCORED))

    assert rewards[1:] == [[10.0, None], [10.0, None]]
    assert [func.__name__ for func in funcs] == ["medreward", "ten", "ten_later"]
    assert pickle.loads(pickle.dumps(funcs[1])).__name__ == "ten"  # noqa: S301 - our own


async def test_columns_have_the_names_of_the_data_set(url: str) -> None:
    """They are found under any name, and no column of the data set is in our way."""
    given = batch(SCORED, SCORED, options=[["a"], ["b"]], bound=[1, 2], components=[3, 4])
    given["solution"] = [given.pop("reference")[0], ["right lower lobe", SCORED]]
    given["kind"] = ["X_RAY", ""]
    funcs = made(url, reference_column="solution", modality_column="kind")

    ((first, second),) = await called(funcs, **given)

    # The first does not name its modality; the second has none to name, and an exact reference.
    assert first == pytest.approx(0.6175)
    assert second == pytest.approx(1.0)


async def test_a_row_without_a_reference_costs_no_other_row(url: str) -> None:
    """It has no reward; the rest of the batch does."""
    given = batch(SCORED, SCORED, SCORED, reference=[None, [], SCORED])
    funcs = made(url)

    assert await called(funcs, **given) == [[None, None, pytest.approx(1.0)]]


async def test_a_column_that_is_not_there_is_named(url: str) -> None:
    """The error says which one, and which option names another."""
    funcs = made(url, reference_column="solution")

    with pytest.raises(ValueError, match=r"no column 'solution'.*reference_column"):
        await called(funcs, **batch(SCORED))


async def test_a_request_that_is_refused_ends_the_step(url: str) -> None:
    """Every function raises the same, so that nothing is trained on."""
    funcs = made(url, ["format", "modality"], recipe="none")
    calls = [func(**batch(SCORED)) for func in funcs]

    outcomes = await asyncio.gather(*calls, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [RequestRefused] * 2


async def test_a_function_that_is_cancelled_takes_no_other_along(url: str) -> None:
    """The request that they share goes on for those that are left."""
    one, other = made(url, ["format", "accuracy_llm"])
    cancelled, left = (asyncio.create_task(f(**batch(SCORED))) for f in (one, other))
    await asyncio.sleep(0)
    cancelled.cancel()

    assert await left == [1.0]


async def test_an_old_trl_raises_instead_of_counting_a_none_as_zero(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before 1.6 there was no way to say that a sample has no reward."""
    installed = tmp_path / "trl-1.5.2.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: trl\nVersion: 1.5.2\n")
    monkeypatch.syspath_prepend(tmp_path)
    funcs = made(url)

    with pytest.raises(NoReward):
        await called(funcs, **batch(SCORED, UNSCORED))


@pytest.mark.parametrize(("rule", "expected"), [("zero", [0.0]), ("impute", [0.64660])])
async def test_a_rule_for_the_unscored_gives_a_number(
    url: str, rule: Any, expected: list[float]
) -> None:
    """Asked for, it stands where the reward would."""
    funcs = made(url, on_unscored=rule)

    ((_, reward),) = await called(funcs, **batch(SCORED, UNSCORED))

    assert [reward] == pytest.approx(expected, abs=1e-4)


async def test_a_zero_in_place_of_a_reward_is_a_zero_in_each_component(url: str) -> None:
    """Components that were had do not make it a little more."""
    funcs = made(url, ["format", "accuracy_llm"], on_unscored="zero")

    assert await called(funcs, **batch(SCORED, UNSCORED)) == [[1.0, 0.0], [1.0, 0.0]]


async def test_components_are_imputed_one_by_one(url: str) -> None:
    """Those that a sample has stay; in place of the others is its group's mean."""
    funcs = made(url, ["accuracy_llm", "format"], on_unscored="impute")
    given = batch(SCORED, "right lower lobe", UNSCORED, SCORED, UNSCORED)
    given["prompts"][3:] = ["Which one?", "And which here?"]
    given["completions"][2] = UNSCORED

    judged, formed = await called(funcs, **given)

    # The last one is alone in its group, and gets the mean of all.
    assert judged == [1.0, 0.0, 0.5, 1.0, pytest.approx(2 / 3)]
    assert formed == [1.0, 1.0, 0.0, 1.0, 1.0]


async def test_neither_key_nor_text_is_shown(
    url: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Printing a function shows no key, and scoring logs and prints nothing of a sample."""
    (func,) = made(url, api_key="sesame")

    with caplog.at_level(logging.DEBUG, logger="medreward_client"):
        await func(**batch(SCORED, UNSCORED))

    assert "sesame" not in repr(func)
    shown = caplog.text + "".join(capsys.readouterr())
    assert "Roe" not in shown
    assert "lobe" not in shown


def groups(*prompts: str) -> dict[str, Any]:
    """Build the arguments of a call with a response to each prompt, in TRL's order."""
    return {
        "prompts": list(prompts),
        "completions": [RANKED] * len(prompts),
        "reference": ["left lower lobe"] * len(prompts),
        "trainer_state": STATE,
    }


async def test_groups_are_declared_for_recipes_that_compare_them(service: ToldService) -> None:
    """By their number of samples; a prompt that was drawn twice is two groups."""
    (func,) = made(service.url, num_generations=2)

    rewards = await func(**groups("a", "a", "b", "b", "a", "a"))

    names = [sample["group"] for sample in service.samples]
    assert rewards == [0.5] * 6
    assert [sample["group_size"] for sample in service.samples] == [2] * 6
    assert names == [names[0]] * 2 + [names[2]] * 2 + [f"{names[0]}/1"] * 2
    assert names[0] != names[2]


@pytest.mark.parametrize("prompts", ["aab", "abb", "aabbb", "abab"])
async def test_a_batch_that_divides_a_group_is_refused(service: ToldService, prompts: str) -> None:
    """A process may get a part of a group, and that would be compared without the rest."""
    (func,) = made(service.url, num_generations=2)

    with pytest.raises(ValueError, match=r"num_generations=2: .*per_device_train_batch_size"):
        await func(**groups(*prompts))

    assert service.samples == []


@pytest.mark.parametrize("size", [0, -2])
def test_a_group_of_no_samples_is_refused_at_once(size: int) -> None:
    """Where the functions are made, and not by the first batch."""
    with pytest.raises(ValueError, match=f"num_generations={size}: give the trainer's number"):
        made("http://localhost", num_generations=size)


async def test_without_the_size_of_groups_such_a_recipe_is_refused(service: ToldService) -> None:
    """With the option to set; TRL's own channel would leave every sample out, in silence."""
    (func,) = made(service.url)

    with pytest.raises(NoReward, match=r"group_rank .*pass `num_generations`"):
        await func(**groups("a", "a"))

    plain = await func(**{**groups("a"), "completions": [RIGHT]})
    assert plain == [1.0]
    assert "group_size" not in service.samples[-1]
