"""RLVRR's chains of keywords, against the paper's expression and the usual table of the LCS."""

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward.signals.keyword_chain import (
    KIND,
    MAX_COMPARED,
    Inputs,
    Options,
    chains,
    common_length,
)
from tests.service.signals.rollouts import answered

ALPHABET = st.sampled_from([*"ab_-( ", "é", "\n", "ি"])
KEYWORDS = st.lists(st.text(ALPHABET, min_size=1, max_size=4), min_size=1, max_size=4)
POINTS = st.lists(st.lists(KEYWORDS, min_size=1, max_size=2), min_size=1, max_size=3)
ANSWERS = st.text(ALPHABET, max_size=30)


def found(keywords: Sequence[str], text: str) -> list[str]:
    """The keywords in a text as the paper's code finds them."""
    either = "|".join(map(re.escape, keywords))
    return [word.lower() for word in re.findall(rf"(?<!\w)(?:{either})(?!\w)", text, re.IGNORECASE)]


def table_length(one: Sequence[object], other: Sequence[object]) -> int:
    """The length of the longest common subsequence by the usual table."""
    rows = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, left in enumerate(one):
        for j, right in enumerate(other):
            either = max(rows[i][j + 1], rows[i + 1][j])
            rows[i + 1][j + 1] = rows[i][j] + 1 if left == right else either
    return rows[-1][-1]


def expected(answer: str, references: Sequence[str], points: list[list[list[str]]]) -> float:
    """The value by brute force."""
    best = []
    for point in points:
        likeness = [0.0]
        for keywords in point:
            said = found(keywords, answer)
            for reference in references:
                meant = found(keywords, reference)
                if longest := max(len(said), len(meant)):
                    likeness.append(table_length(meant, said) / longest)
        best.append(max(likeness))
    return sum(best) / len(best)


def value_of(answer: str, references: Sequence[str], points: list[list[list[str]]]) -> float:
    """The value that the signal gives."""
    inputs = Inputs.model_validate({"key_points": points})
    return KIND.value(answered(answer, *references), inputs, Options())


@given(KEYWORDS, ANSWERS)
def test_keywords_are_what_the_expression_finds(keywords: list[str], text: str) -> None:
    """Borders, order, and keywords within keywords, signs and letters alike."""
    ((places, length),) = chains(text, [keywords])

    assert [keywords[place].lower() for place in places] == found(keywords, text)
    assert length == len(places)


@given(*[st.lists(st.integers(0, 3), max_size=12)] * 2)
def test_the_common_length_is_that_of_the_table(one: list[int], other: list[int]) -> None:
    """Bit by bit as cell by cell."""
    assert common_length(one, other) == table_length(one, other)


@given(ANSWERS, st.lists(ANSWERS, max_size=2), POINTS)
def test_the_value_is_that_of_brute_force(
    answer: str, references: list[str], points: list[list[list[str]]]
) -> None:
    """Means, maxima and empty chains included."""
    assert value_of(answer, references, points) == pytest.approx(
        expected(answer, references, points), abs=1e-12
    )


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("fever, then cough, then rash", 1.0),
        ("Fever, then COUGH", (2 / 3 + 1 / 1) / 2),
        ("cough, then fever, then rash", (2 / 3 + 1) / 2),
        ("fever, cough, rash, fever", (3 / 4 + 1) / 2),
        ("coughing and feverish", 0.0),
        ("rash", (1 / 3 + 0) / 2),
        ("", 0.0),
    ],
)
def test_hand_table(answer: str, value: float) -> None:
    """Order and surplus keywords count, and words within words do not."""
    points = [[["fever", "cough", "rash"]], [["cough"], ["coughs"]]]

    assert value_of(answer, ["Fever first, cough later, rash last"], points) == pytest.approx(value)


def test_the_best_reference_counts() -> None:
    """Each key point is compared with each reference."""
    points = [[["a", "b"]], [["c", "d"]]]

    assert value_of("a b d c", ["b a d c", "a b c d"], points) == 1.0


def test_a_long_chain_counts_whole() -> None:
    """Its first keywords are compared, and what is beyond them makes it no better."""
    answer = "fever " * (4 * MAX_COMPARED)

    assert value_of(answer, ["fever"], [[["fever"]]]) == 1 / (4 * MAX_COMPARED)
