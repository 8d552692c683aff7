"""Phrases around terms: what is held out is not learnt from."""

from dataclasses import asdict

import pytest

from medreward.verifier.phrases import load_phrases, lowered, put


def test_no_held_out_phrase_is_among_those_of_training() -> None:
    """Not one that differs by case or a final stop either."""
    training, held_out = (
        {
            phrase.casefold().rstrip(".")
            for part in asdict(load_phrases(half)).values()
            for phrase in part
        }
        for half in ("training", "held_out")
    )

    assert len(held_out) > 20
    assert not training & held_out


@pytest.mark.parametrize(
    ("phrase", "text", "filled"),
    [
        ("The image shows {}.", "Renal cyst", "The image shows renal cyst."),
        ("The image shows {}.", "COPD", "The image shows COPD."),
        ("{} is present.", "renal cyst", "Renal cyst is present."),
        ("{} is seen", "Renal cyst", "renal cyst is seen"),
        ("{}; {}", "A", "A; A"),
    ],
)
def test_a_term_is_written_as_its_place_wants_it(phrase: str, text: str, filled: str) -> None:
    """In lower case inside a phrase, unless it is an abbreviation, and with a capital before it."""
    assert put(phrase, *[text] * phrase.count("{}")) == filled


def test_an_empty_text_stays_empty() -> None:
    """There is no first letter."""
    assert lowered("") == ""
