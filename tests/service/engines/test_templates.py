"""The shipped templates: they load, they say what they want, and their hash is theirs alone."""

import re
from dataclasses import replace
from importlib import resources
from itertools import combinations, permutations
from typing import Any

import pytest

from medreward.engines.prompts.labels import label_begun_by
from medreward.engines.templates import Template, load_templates

TEMPLATES = load_templates()
EQUIVALENCE = TEMPLATES["equivalence"]


def test_every_file_is_a_template() -> None:
    """Three for /judge, and those of medix-r1 and of pairs of answers; each is named after its file."""
    folder = resources.files("medreward.engines.prompts") / "templates"
    names = [entry.name.removesuffix(".toml") for entry in folder.iterdir()]

    assert sorted(names) == [template.name for template in TEMPLATES.values()]
    assert set(TEMPLATES) == {"equivalence", "match", "preference", "report", "rubric"}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_says_its_labels(name: str) -> None:
    """A judge that is not told the words cannot be expected to answer in them.

    They are YES and NO, a digit, or for a criterion also CANNOT_ASSESS.
    """
    template = TEMPLATES[name]
    words = re.findall(r"\w+", f"{template.instruction} {template.opening}")

    verdicts = ("YES", "NO", "CANNOT_ASSESS") if name == "rubric" else ("YES", "NO")
    assert template.labels == (verdicts if template.kind == "verdict" else tuple("012345"))
    assert set(template.labels) <= set(words)


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_labels_keep_apart(name: str) -> None:
    """No label begins like another, so the first token tells which it is."""
    labels = TEMPLATES[name].labels

    assert len(labels) == len(set(labels)) >= 2
    assert all(not one.startswith(other) for one, other in permutations(labels, 2))
    assert all(label_begun_by(label[0], labels) == label for label in labels)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_says_that_data_is_data(name: str) -> None:
    """The instruction stands above the fence and tells what the lines inside are."""
    template = TEMPLATES[name]

    assert "between the marks are data" in template.instruction
    assert template.instruction == template.instruction.strip()
    assert template.opening
    assert template.version >= 1


def test_the_published_recipe_is_judged_without_the_question() -> None:
    """MediX-R1 shows its judge answer and reference only; the others show the question."""
    shown = {name: template.shows_question for name, template in TEMPLATES.items()}

    assert [name for name, is_shown in shown.items() if not is_shown] == ["match"]


CHANGES: list[dict[str, Any]] = [
    {},
    {"name": "equivalence2"},
    {"version": 2},
    {"kind": "grade"},
    {"labels": ("NO", "YES")},
    {"labels": ("YES", "NO", "MAYBE")},
    {"labels": ("YES, NO",)},
    {"shows_question": False},
    {"instruction": f"{EQUIVALENCE.instruction} "},
    {"opening": "Verdict: "},
    {"opening": "", "instruction": f"{EQUIVALENCE.instruction}{EQUIVALENCE.opening}"},
]


def test_the_hash_changes_with_every_field() -> None:
    """It is part of every cache key: a template that asks otherwise must not meet old answers."""
    edited = [replace(EQUIVALENCE, **change) for change in CHANGES]

    assert all(one.sha != other.sha for one, other in combinations(edited, 2))
    assert len({template.sha for template in TEMPLATES.values()}) == len(TEMPLATES)


def test_the_hash_changes_with_nothing_else() -> None:
    """Loaded again, or built from the same parts elsewhere, a template has the same hash."""
    rebuilt = Template("n", 1, "verdict", ("YES", "NO"), True, "I", "O:")

    assert [t.sha for t in load_templates().values()] == [t.sha for t in TEMPLATES.values()]
    assert rebuilt.sha == Template("n", 1, "verdict", ("YES", "NO"), True, "I", "O:").sha
    assert re.fullmatch("[0-9a-f]{64}", rebuilt.sha)
