"""The shipped signals without a model over HTTP: each alone in a recipe."""

from pathlib import Path

import pytest

from medreward.signals.registry import SIGNAL_KINDS, range_of
from tests.conftest import Serve

RECIPE = """
name = "alone"
version = 1
description = "One signal."
template = "equivalence"
range = [{low}, {high}]

[tags]

[signals.{name}]
weight = 1.0
"""


@pytest.mark.anyio
@pytest.mark.parametrize("name", SIGNAL_KINDS)
async def test_a_shipped_signal_can_be_all_of_a_recipe(
    serve: Serve, tmp_path: Path, name: str
) -> None:
    """Without its inputs a sample has a value in the declared range, or a problem that names a key."""
    kind = SIGNAL_KINDS[name]
    low, high = range_of(name, kind, kind.options())
    path = tmp_path / "alone.toml"
    path.write_text(RECIPE.format(name=name, low=low, high=max(high, low + 1)))
    sample = {"response": "<thinking>t</thinking><answer>spleen</answer>", "reference": "spleen"}
    async with serve(recipes=str(path), recipe="alone") as client:
        reply = await client.post("/reward", json={"samples": [sample, sample]})
        shown = (await client.get("/recipes/alone")).json()

    first, second = reply.json()["results"]
    assert first == second
    assert shown["range"] == [low, max(high, low + 1)]
    if first["status"] == "scored":
        assert low <= first["components"][name]["value"] <= high
        assert first["components"][name]["rule"] == name
    else:
        assert first["error"]["kind"] == "invalid_request"
        assert first["error"]["message"].startswith("extra.")
    assert reply.json()["counts"]["judge_calls"] == 0
