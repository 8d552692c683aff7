"""Hints that give the answer away."""

import pytest

from medreward.signals.leaky_hint import KIND, Inputs, Options
from tests.service.signals.rollouts import responded


@pytest.mark.parametrize(
    ("hint", "references", "value"),
    [
        ("", ("B",), 0),
        ("Look at the left lower lobe.", ("left lower lobe",), 1),
        ("It is LEFT\nlower  lobe", ("left lower lobe",), 1),
        ("Look at the lower left lobe.", ("left lower lobe",), 0),
        ("An effusional pattern.", ("effusion",), 0),
        ("Think of pneumonia.", ("abscess", "pneumonia"), 1),
        ("A mass is seen; I see a line.", ("A",), 0),
        ("A mass is seen; I see a line.", ("I",), 0),
        ("The answer is B.", ("B",), 1),
        ("Choose option (b)", ("B",), 1),
        ("The ground truth is <answer>B</answer>", ("B",), 1),
        ("the answer is below", ("b",), 0),
        ("これは肺炎を疑う所見です", ("肺炎",), 1),
        ("これは気胸を疑う所見です", ("肺炎",), 0),
        ("anything", ("...",), 0),
        ("anything", (), 0),
    ],
)
def test_hand_table(hint: str, references: tuple[str, ...], value: float) -> None:
    """Words in one run count; a single letter has to be named as the answer."""
    assert KIND.value(responded("", *references), Inputs(hint=hint), Options()) == value
