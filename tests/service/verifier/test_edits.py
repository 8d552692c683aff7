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
    for edit in (*edits.FAITHFUL, edits.swap, edits.replace_organ, edits.renumber):
        assert edit(text, rng) != ""


def test_a_measured_twin_is_another_quantity() -> None:
    """The two of a pair differ in number or unit."""
    assert all(a != b for a, b in (edits.measured(CHANCE) for _ in range(200)))


def test_reordering_keeps_the_words() -> None:
    """An "of" is turned round."""
    assert edits.reorder("Abnormality of the kidney", CHANCE) == "kidney abnormality"


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("kidney cyst", {"renal cyst"}),
        ("Enlarged Renal pelvis", {"Enlarged Kidney pelvis", "Increased in size Renal pelvis"}),
        ("left thumb", {"left pollex"}),
        ("left foot", {None}),
    ],
)
def test_a_word_is_exchanged_by_one_with_its_meaning(text: str, same: set[str | None]) -> None:
    """The rest of the text stays, and so does its capital."""
    assert {edits.reword(text, CHANCE) for _ in range(50)} == same


def test_another_organ_is_another_finding() -> None:
    """No name of the same organ comes in its place; a text without an organ is left alone."""
    drawn = {edits.replace_organ("Renal cyst", CHANCE) for _ in range(100)}

    assert not drawn & {"Renal cyst", "Kidney cyst"}
    assert "Hepatic cyst" in drawn
    assert edits.replace_organ("left thumb", CHANCE) is None


def test_a_quantity_is_written_in_another_way() -> None:
    """The two texts differ, and their numbers agree but for a change of unit."""
    drawn = {edits.remeasured(random.Random(seed)) for seed in range(300)}  # noqa: S311 - as above

    assert all(a != b for a, b in drawn)
    assert {("14 days", "2 weeks"), ("2 weeks", "14 days")} & drawn
    assert any({"%", "percent"} <= {a[-1], b.split()[-1]} for a, b in drawn)
