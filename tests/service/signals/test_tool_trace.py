"""Med-TIV's reward, against its rules written out and a table by hand."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward.signals.tool_trace import KIND, LEAST, Inputs, Options
from tests.service.signals.rollouts import responded

LOOP = "Upon re-checking, "
PIECES = st.sampled_from(
    [
        *("<answer>", "</answer>", "1", "0", "the ", "A. ", LOOP, "i realized", "I found that "),
        *("HOWEVER, I SHOULD", "<search>", "\n", "<answer>1</answer>" * 11, LOOP * 30),
    ]
)


def bare(text: str) -> str:
    """A text as the paper compares it, or with its articles and signs if it has nothing else."""
    kept = "".join(sign for sign in text.lower() if sign not in string.punctuation)
    words = re.sub(r"\b(a|an|the)\b", " ", kept).split()
    return " ".join(words or kept.split() or text.lower().split())


def expected(response: str, *references: str) -> float:
    """The reward by the rules of the paper's code, with the floor for all traces."""
    loops = re.findall(
        "upon re-(?:checking|examining|verifying)|i (?:should recall|found that|realized)"
        "|however, i should",
        response.lower(),
    )
    answers = re.findall("<answer>(.*?)</answer>", response, re.DOTALL)
    if not answers:
        return max(-1.5, -0.5 - 0.1 * (len(loops) // 5))
    said = bare(answers[-1].strip())
    is_right = said != "" and said in map(bare, references)
    tags = [response.count("<answer>"), response.count("</answer>")]
    base = 0.1 if not is_right else 0.25 if max(tags) > 10 else 1.0
    return max(-1.5, base - 0.05 * (len(loops) // 10))


@given(st.lists(PIECES, max_size=25).map("".join), st.sampled_from(["1", "0", "A.", ""]))
def test_the_value_is_that_of_the_rules(response: str, reference: str) -> None:
    """The trace may hold any tags and loops in any order."""
    value = KIND.value(responded(response, reference), Inputs(), Options())

    assert value == expected(response, reference)


@pytest.mark.parametrize(
    ("said", "reference", "is_right"),
    [
        ("A", "A", True),
        ("(a).", "A", True),
        ("+", "+", True),
        ("", "A", False),
        ("the", "A", False),
        ("!", "A", False),
        ("-", "+", False),
        (" ", " ", False),
    ],
)
def test_an_option_that_is_an_article_is_compared_by_it(
    said: str, reference: str, *, is_right: bool
) -> None:
    """Else silence would be the right answer to each question whose option is `A`."""
    value = KIND.value(responded(f"<answer>{said}</answer>", reference), Inputs(), Options())

    assert value == (1.0 if is_right else 0.1)


@pytest.mark.parametrize(
    ("response", "value"),
    [
        ("<answer>1</answer>", 1.0),
        ("<answer>0</answer>", 0.1),
        ("<answer>0</answer> no: <answer>1</answer>", 1.0),
        ("<answer>1</answer> no: <answer>0</answer>", 0.1),
        ("<answer> The 1. </answer>", 1.0),
        ("<answer>1", -0.5),
        ("", -0.5),
        ("<answer>1</answer>" * 10, 1.0),
        ("<answer>1</answer>" * 11, 0.25),
        ("<answer>" * 11 + "1</answer>", 0.1),
        ("<answer>1</answer>" + "</answer>" * 10, 0.25),
        (LOOP * 4, -0.5),
        (LOOP * 5, -0.6),
        (LOOP * 1000, -1.5),
        (LOOP * 9 + "<answer>1</answer>", 1.0),
        (LOOP * 10 + "<answer>1</answer>", 0.95),
        (LOOP * 10 + "<answer>0</answer>", 0.05),
        (LOOP * 1000 + "<answer>1</answer>", -1.5),
    ],
)
def test_hand_table(response: str, value: float) -> None:
    """Last answer, tag spam, loops, a missing end, and the floor."""
    found = KIND.value(responded(response, "1"), Inputs(), Options())

    assert found == pytest.approx(value, abs=1e-12)


def test_the_range_is_declared() -> None:
    """Down to the floor, which loops reach, and up to a right answer."""
    assert KIND.range(Options()) == (LEAST, 1.0) == (-1.5, 1.0)
