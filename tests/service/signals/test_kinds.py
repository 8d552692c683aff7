"""Every signal keeps to its range for any text, and its work grows with the text alone."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from medreward.guards.normal import clear_cache
from medreward.signals import (
    accept,
    findings_diagnosis,
    keyword_chain,
    language,
    leaky_hint,
    style_checks,
    tool_trace,
)
from medreward.signals.kind import Rollout, SignalKind
from tests.service.signals.rollouts import lines_run

KINDS: dict[str, SignalKind] = {
    "accept": accept.KIND,
    "findings_diagnosis": findings_diagnosis.KIND,
    "keyword_chain": keyword_chain.KIND,
    "language": language.KIND,
    "leaky_hint": leaky_hint.KIND,
    "style_checks": style_checks.KIND,
    "tool_trace": tool_trace.KIND,
}
EXTRA: dict[str, Any] = {
    "language": "yo",
    "key_points": [[["left", "left lower lobe", "left left left x"], ["no effusion"]], [["("]]],
    "checks": [
        {"kind": "pattern", "pattern": "(a|b|ab)*c|left.*left"},
        {"kind": "json", "weight": 0.1},
        {"kind": "length", "at_most": 30, "weight": 3},
        *({"kind": "markdown", "element": element} for element in style_checks.ELEMENTS),
    ],
    "labels": ["Edema", "Pleural Effusion"],
    "hint": "The answer is (B), left.",
}
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "accept": [{}, {"needs_format": True}],
    "findings_diagnosis": [{}, {"penalty": 0}, {"penalty": 1}],
    "language": [{}, {"tags_share": 0, "among": ["en"]}, {"tags_share": 1, "among": []}],
    "style_checks": [{}, {"checks": [{"kind": "length", "unit": "lines", "weight": 1e-3}]}],
}

PIECES = st.sampled_from(
    [
        *("<think>", "</think>", "<thinking>", "</thinking>", "<answer>", "</answer>", "\n", " "),
        *("left lower lobe", "no effusion", "edema", "Upon re-checking", "However, I should "),
        *("B", "# x\n", "- x\n", "```", "**", "{}", "|x|\n", "\ud800", "ẹ̀jẹ̀", "1"),
    ]
)
TEXTS = st.one_of(st.lists(PIECES, max_size=40).map("".join), st.text(max_size=300))
ROLLOUTS = st.builds(
    Rollout, TEXTS, TEXTS, TEXTS, st.lists(TEXTS, max_size=3).map(tuple), st.none() | TEXTS
)

HOSTILE = (
    *(
        "<answer>",
        "<answer>x</answer>",
        "</think>  <answer>",
        "However, I should ",
        "e\u0345\u0301",
    ),
    *("no left mass or effusion, possibly ", "left ", "| ", "**a", "[", "```", "1", " ", "\n"),
)


def read(name: str) -> Iterator[tuple[BaseModel, BaseModel]]:
    """Inputs of a kind, with each of its options."""
    kind = KINDS[name]
    for options in OPTIONS.get(name, [{}]):
        yield kind.inputs.model_validate(EXTRA), kind.options.model_validate(options)


@pytest.mark.parametrize("name", KINDS)
@given(rollout=ROLLOUTS)
def test_a_value_is_in_its_range(name: str, rollout: Rollout) -> None:
    """The texts may be anything, and equal ones have equal values."""
    for inputs, options in read(name):
        low, high = KINDS[name].range(options)
        value = KINDS[name].value(rollout, inputs, options)

        assert type(value) is float
        assert low <= value <= high
        assert KINDS[name].value(rollout, inputs, options) == value


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("unit", HOSTILE)
def test_twice_the_text_is_twice_the_work(name: str, unit: str) -> None:
    """Lines of Python, since a busy machine does not change their number."""
    kind, (inputs, options) = KINDS[name], next(read(name))
    fresh = count()

    def work(size: int) -> int:
        # Another text each time, and its words known: the guards remember both.
        text = f"x{next(fresh)}{unit * (size // len(unit))}"
        rollout = Rollout(text, text, text, (text[:2000],), None)
        clear_cache()
        return lines_run(lambda: kind.value(rollout, inputs, options))

    work(1000)

    assert work(8000) <= 2.1 * work(4000) + 200


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("unit", HOSTILE[::3])
def test_a_megabyte_of_anything_ends(name: str, unit: str) -> None:
    """In the whole response, the thinking and the answer; what takes the square takes hours."""
    text = unit * (2**20 // len(unit))

    inputs, options = next(read(name))
    rollout = Rollout(text, text, text, (text[:16_000],), None)
    low, high = KINDS[name].range(options)

    assert low <= KINDS[name].value(rollout, inputs, options) <= high


@pytest.mark.parametrize("name", KINDS)
def test_options_know_their_keys(name: str) -> None:
    """A misspelt option is refused, and other keys of `extra` are not this signal's matter."""
    with pytest.raises(ValidationError, match="Extra inputs"):
        KINDS[name].options.model_validate({"weigth": 1})

    read_inputs = KINDS[name].inputs.model_validate({**EXTRA, "other": object()})
    assert isinstance(read_inputs, KINDS[name].inputs)


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("language", {}),
        ("language", {"language": "x" * 33}),
        ("keyword_chain", {}),
        ("keyword_chain", {"key_points": []}),
        ("keyword_chain", {"key_points": [[["x" * 129]]]}),
        ("keyword_chain", {"key_points": [[["x"] * 64]] * 5}),
        ("keyword_chain", {"key_points": [[["x"]] * 5] * 13}),
        ("keyword_chain", {"key_points": [[["x " * 17]]]}),
        ("keyword_chain", {"key_points": [[[]]]}),
        ("style_checks", {"checks": [{"kind": "json"}] * 33}),
        ("style_checks", {"checks": [{"kind": "pattern", "pattern": "x" * 501}]}),
        ("findings_diagnosis", {}),
        ("findings_diagnosis", {"labels": []}),
        ("findings_diagnosis", {"labels": ["Edema"] * 15}),
        ("leaky_hint", {"hint": "x" * 65_537}),
    ],
)
def test_inputs_are_bounded(name: str, extra: dict[str, Any]) -> None:
    """An input that is missing or too large is refused before it costs anything."""
    with pytest.raises(ValidationError):
        KINDS[name].inputs.model_validate(extra)
