"""The operator's own signals over HTTP: their values, and all that may befall them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from medreward.errors import SetupError
from medreward.signals.registry import load_kinds
from tests.conftest import Serve

ROOT = Path(__file__).parents[3]
MODULE = "tests.support.own_signals"
BALANCE, TROUBLE = f"balance={MODULE}:BALANCE", f"trouble={MODULE}:TROUBLE"

RECIPE = """
name = "mine"
version = 1
description = "A signal of our own."
template = "equivalence"
tags = "none"
{range}
[signals.{signal}]
weight = 1.0
"""


def recipe(folder: Path, signal: str, bounds: str = "") -> str:
    """Write a recipe of one signal; gives its path."""
    path = folder / "mine.toml"
    path.write_text(RECIPE.format(signal=signal, range=bounds))
    return str(path)


async def results(
    serve: Serve, path: str, signals: str, samples: Sequence[dict[str, Any]], **settings: Any
) -> list[dict[str, Any]]:
    """Score samples under the recipe; gives their results."""
    texts = {"reference": "spleen"}
    async with serve(recipes=path, recipe="mine", signals=signals, **settings) as client:
        reply = await client.post(
            "/reward", json={"samples": [{**texts, **sample} for sample in samples]}
        )
        found: list[dict[str, Any]] = reply.json()["results"]
    return found


@pytest.mark.anyio
async def test_a_signal_of_ones_own_is_a_reward(serve: Serve, tmp_path: Path) -> None:
    """It reads `extra`, ignores other keys of it, and may be negative in its declared range."""
    path = recipe(tmp_path, "balance", "range = [-1.0, 1.0]")
    extra = {"words": 2, "note": "not ours"}
    said = ["the spleen", "the spleen is torn", "spleen", "one two three four five six"]

    found = await results(serve, path, BALANCE, [{"response": one, "extra": extra} for one in said])

    assert [result["reward"] for result in found] == [1.0, 0.0, 0.5, -1.0]
    assert found[0]["components"]["balance"]["rule"] == "balance"


@pytest.mark.anyio
async def test_the_signal_of_the_documentation_is_one(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a reader copies from docs/recipes.md gives the rewards that it says."""
    page = (ROOT / "docs" / "recipes.md").read_text("utf-8").split("### A signal of your own")[1]
    code, table = (page.split(f"```{kind}\n")[1].split("```")[0] for kind in ("python", "toml"))
    (tmp_path / "my_signals.py").write_text(code)
    (tmp_path / "brief.toml").write_text(table)
    monkeypatch.syspath_prepend(tmp_path)
    samples = [
        {"response": "spleen", "reference": "spleen", "extra": {"least_words": least}}
        for least in (1, 2)
    ]
    settings = {"signals": "brevity=my_signals:BREVITY", "recipes": str(tmp_path / "brief.toml")}
    async with serve(recipe="brief", **settings) as client:
        reply = await client.post("/reward", json={"samples": samples})

    assert [result["reward"] for result in reply.json()["results"]] == [1.0, 0.9]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ({}, "extra.words: required, but missing; the signal balance reads it"),
        ({"words": "many"}, "extra.words: Input should be a valid integer"),
        ({"words": -7}, "extra.words: not accepted; the signal balance reads it"),
        ({"words": -17}, "extra.words: not accepted; the signal balance reads it"),
    ],
)
async def test_a_wrong_input_costs_its_sample_alone(
    serve: Serve, tmp_path: Path, extra: dict[str, Any], told: str
) -> None:
    """The problem names the key of `extra`, and never what a validator says of the value."""
    path = recipe(tmp_path, "balance", "range = [-1.0, 1.0]")
    samples = [
        {"response": "the spleen", "extra": extra},
        {"response": "the spleen", "extra": {"words": 2}},
    ]

    wrong, right = await results(serve, path, BALANCE, samples)

    assert (wrong["error"]["kind"], wrong["reward"]) == ("invalid_request", None)
    assert wrong["error"]["message"].startswith(told)
    assert right["reward"] == 1.0


@pytest.mark.anyio
async def test_deeper_nesting_than_can_be_written_costs_its_sample_alone(
    serve: Serve, tmp_path: Path
) -> None:
    """A body may be nested more deeply than the JSON for the process of the signals."""
    nested = "[" * 1015 + "]" * 1015
    sample = '{"response": "the spleen", "reference": "spleen", "extra": {"words": 2, "note": %s}}'
    body = f'{{"samples": [{sample % nested}, {sample % "[]"}]}}'
    path = recipe(tmp_path, "balance", "range = [-1.0, 1.0]")
    async with serve(recipes=path, recipe="mine", signals=BALANCE) as client:
        reply = await client.post("/reward", content=body)

    deep, right = reply.json()["results"]
    assert deep["error"]["message"] == "extra: nested too deeply"
    assert right["reward"] == 1.0


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("response", "told"),
    [
        ("raise", "it raised RuntimeError at _trouble:"),
        ("allocate", "it raised MemoryError at _trouble:"),
        ("exit", "its process died on the sample"),
        ("text", "it gave a str, not a number"),
        ("huge", "it gave a value outside its range of 0 to 1"),
        ("nan", "it gave NaN or an infinite number"),
        ("-inf", "it gave NaN or an infinite number"),
        ("1.5", "it gave a value outside its range of 0 to 1"),
    ],
)
async def test_a_signal_that_fails_costs_its_sample_alone(
    serve: Serve, tmp_path: Path, response: str, told: str
) -> None:
    """The sample is unscored, its problem names the signal, and its neighbours are scored."""
    samples = [{"response": one} for one in ("0.25", response, "print", "0.75")]

    first, failed, printed, last = await results(
        serve, recipe(tmp_path, "trouble"), TROUBLE, samples
    )

    assert failed["error"]["kind"] == "signal_failed"
    assert failed["error"]["message"].startswith(f"signal trouble: {told}")
    assert (failed["reward"], failed["error"]["retryable"]) == (None, False)
    assert [r["reward"] for r in (first, printed, last)] == [0.25, 0.5, 0.75]


@pytest.mark.anyio
async def test_inputs_that_a_signal_cannot_use_are_the_samples_fault(
    serve: Serve, tmp_path: Path
) -> None:
    """They are told apart from a failure of the signal, and nothing of the sample is quoted."""
    (result,) = await results(
        serve, recipe(tmp_path, "trouble"), TROUBLE, [{"response": "unusable"}]
    )

    assert result["error"]["kind"] == "invalid_request"
    assert result["error"]["message"] == (
        "extra: its inputs are not accepted; the signal trouble reads it"
    )


@pytest.mark.anyio
async def test_a_signal_that_hangs_costs_its_sample_alone(serve: Serve, tmp_path: Path) -> None:
    """The process is ended at its deadline, and a new one computes the rest."""
    samples = [{"response": one} for one in ("0.25", "hang", "0.75")]

    first, failed, last = await results(
        serve, recipe(tmp_path, "trouble"), TROUBLE, samples, signals_timeout_s=2
    )

    assert failed["error"]["message"] == "signal trouble: no value within 2 s"
    assert [first["reward"], last["reward"]] == [0.25, 0.75]


@pytest.mark.anyio
async def test_a_signal_that_hangs_ends_with_the_deadline_of_the_request(
    serve: Serve, tmp_path: Path
) -> None:
    """What is not computed by then has the kind `deadline`, and a later request is answered."""
    texts = {"reference": "spleen"}
    path = recipe(tmp_path, "trouble")
    async with serve(recipes=path, recipe="mine", signals=TROUBLE) as client:
        late, well = [
            await client.post(
                "/reward",
                json={"samples": [{**texts, "response": one}], "deadline_ms": deadline_ms},
            )
            for one, deadline_ms in (("hang", 300), ("0.5", 60_000))
        ]

    assert late.json()["results"][0]["error"]["kind"] == "deadline"
    assert well.json()["results"][0]["reward"] == 0.5


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("balance", "write name=package.module:KIND"),
        (f"Balance={MODULE}:BALANCE", "write name=package.module:KIND"),
        (f"format={MODULE}:BALANCE", "the name 'format' is taken"),
        ("balance=no.such.module:KIND", "ModuleNotFoundError"),
        (f"balance={MODULE}:NOTHING", "AttributeError"),
        (f"balance={MODULE}:NO_KIND", "NO_KIND is no SignalKind"),
        (f"balance={MODULE}:WEIGHED", "its options cannot have the key `weight`"),
        (f"balance={MODULE}:NEEDY", "its `needs` are a tuple of some of reference, tags"),
    ],
)
def test_a_wrong_entry_is_refused_at_the_start(entry: str, told: str) -> None:
    """The refusal names the setting, the entry and the fault."""
    with pytest.raises(SetupError, match=re.escape(f"MEDREWARD_SIGNALS: {entry}: ")) as refusal:
        load_kinds([entry])

    assert told in str(refusal.value)


def test_the_source_of_a_signal_is_part_of_its_identity() -> None:
    """Version and digest of the module, which go into a recipe's fingerprint."""
    version, digest = load_kinds([BALANCE])["balance"].identity

    assert version == 1
    assert re.fullmatch("[0-9a-f]{64}", str(digest))


@pytest.mark.anyio
async def test_another_source_is_another_fingerprint(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two modules that differ in a comment alone give recipes with different fingerprints."""
    monkeypatch.syspath_prepend(tmp_path)
    text = f"from {MODULE} import TROUBLE\n"
    (tmp_path / "own_signals_old.py").write_text(text)
    (tmp_path / "own_signals_new.py").write_text(f"{text}# Changed.\n")
    path, found = recipe(tmp_path, "trouble"), []
    for module in ("own_signals_old", "own_signals_new", "own_signals_old"):
        signals = f"trouble={module}:TROUBLE"
        async with serve(recipes=path, recipe="mine", signals=signals) as client:
            found.append((await client.get("/recipes/mine")).json()["fingerprint"])

    assert found[0] == found[2] != found[1]
