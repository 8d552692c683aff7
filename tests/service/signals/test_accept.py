"""KEPO's exact match, against the expressions of its code."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from medreward.signals.accept import KIND, Inputs, Options, answer_in, is_formatted
from tests.service.signals.rollouts import responded

TEXTS = st.lists(
    st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "B", " ", "\n", "<"]),
    max_size=25,
).map("".join)
FORMAT = re.compile(r"<think>.*?</think>\s*<answer>.*?</answer>", re.DOTALL)


@given(TEXTS)
def test_the_answer_is_what_the_expression_finds(text: str) -> None:
    """The first within one line, or the whole text."""
    found = re.search("<answer>(.*?)</answer>", text)

    assert answer_in(text) == (found[1] if found else text).strip()


@given(st.one_of(TEXTS, TEXTS.map("<think>{}</think> <answer>B</answer>".format)))
@example("<think></think><answer></answer>")
@example("<think></think><answer>")
@example("<think></think>x</think>\n<answer></answer></answer>")
def test_the_format_is_what_the_expression_matches(text: str) -> None:
    """From the first tag to the last, with anything within."""
    assert is_formatted(text) == (FORMAT.fullmatch(text) is not None)


@pytest.mark.parametrize(
    ("response", "references", "options", "value"),
    [
        ("<answer>B</answer>", ("B",), {}, 1),
        ("<answer> B </answer>", ("<answer>B</answer>",), {}, 1),
        ("<answer>b</answer>", ("B",), {}, 0),
        ("B", ("A", "B"), {}, 1),
        ("<answer>\nB\n</answer>", ("B",), {}, 0),
        ("so <answer>A</answer> or <answer>B</answer>", ("B",), {}, 0),
        ("<think>x</think>\n<answer>B</answer>", ("B",), {"needs_format": True}, 1),
        ("<answer>B</answer>", ("B",), {"needs_format": True}, 0),
        ("<think>x</think><answer>B</answer>.", ("B",), {"needs_format": True}, 0),
        ("", (), {}, 0),
        ("<answer> </answer>", ("",), {}, 0),
    ],
)
def test_hand_table(
    response: str, references: tuple[str, ...], options: dict[str, bool], value: float
) -> None:
    """Case counts, an answer over two lines is none, and the first answer is read."""
    rollout = responded(response, *references)

    assert KIND.value(rollout, Inputs(), Options(**options)) == value
