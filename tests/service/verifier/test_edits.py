"""Edits: those that keep a meaning keep it, those that change it do."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward.verifier import edits

CHANCE = random.Random(0)  # noqa: S311 - reproducible, not secret
TEXTS = st.text(alphabet=st.characters(codec="utf-8"), max_size=80)


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("left lung", {"right lung"}),
        ("Hypoglycemia", {"Hyperglycemia"}),
        ("fracture without displacement", {"fracture with displacement"}),
        ("Type 2 diabetes", {"Type 1 diabetes", "Type 3 diabetes"}),
        ("Bright lights", None),  # holds "right", but not as a word
        ("renal cyst", None),
    ],
)
def test_a_swap_changes_one_word_of_a_group(text: str, changed: set[str] | None) -> None:
    """Another member of its group comes in its place; where there is none, nothing."""
    found = edits.swap(text, CHANCE)

    assert found is None if changed is None else found in changed


@given(TEXTS, st.integers())
def test_no_edit_falls_over_any_text(text: str, seed: int) -> None:
    """Whatever the text, an edit gives another one or none."""
    rng = random.Random(seed)  # noqa: S311 - reproducible, not secret
    for edit in (*edits.FAITHFUL, edits.swap, edits.negate, edits.renumber):
        assert edit(text, rng) != ""


def test_a_measured_twin_is_another_quantity() -> None:
    """The two of a pair differ in number or unit."""
    assert all(a != b for a, b in (edits.measured(CHANCE) for _ in range(200)))


def test_reordering_keeps_the_words() -> None:
    """An "of" is turned round."""
    assert edits.reorder("Abnormality of the kidney", CHANCE) == "kidney abnormality"
