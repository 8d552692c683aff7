"""`medreward recipes`: what there is, without loading a model."""

from pathlib import Path

import pytest

from medreward.engines.templates import load_templates
from medreward.recipes.recipe import load_recipes
from tests.service.cli.conftest import STRICT_RECIPE, Run


@pytest.fixture
def with_strict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A recipe of the user's own."""
    path = tmp_path / "strict.toml"
    path.write_text(STRICT_RECIPE, "utf-8")
    monkeypatch.setenv("MEDREWARD_RECIPES", str(path))
    return path


@pytest.mark.usefixtures("with_strict")
def test_every_recipe_is_listed(run: Run) -> None:
    """The built-in ones and the user's own; the default is marked."""
    told = run("recipes")

    assert told.code == 0
    assert "medix-r1-guarded *" in told.stdout
    assert "strict " in told.stdout
    assert "judge 0.5175" in told.stdout
    assert "embed 0.3375 (≥ 0.8)" in told.stdout


def test_one_recipe_is_shown_whole(run: Run) -> None:
    """With its fingerprint, tags, rules and weights."""
    recipe = load_recipes()["medix-r1"]
    told = run("recipes", "medix-r1").stdout

    assert recipe.fingerprint(load_templates()["match"].sha) in told
    assert all(tag in told for tag in recipe.tags.modalities)
    assert "answers under 2 characters, or with '__' or ':' or '?'" in told
    assert "match, shows no question" in told


def test_an_unknown_recipe_is_refused(run: Run) -> None:
    """The message names those there are."""
    told = run("recipes", "medix")

    assert told.code == 2
    assert told.stderr.startswith("medreward: no recipe 'medix'; choose from medix-r1")


def test_a_broken_recipe_is_named(run: Run, with_strict: Path) -> None:
    """File, key and what is wrong, in one line."""
    with_strict.write_text(STRICT_RECIPE.replace("weight = 1.0", "weight = 0.9"), "utf-8")
    told = run("recipes")

    assert told.code == 2
    assert told.stderr.count("\n") == 1
    assert f"recipe {with_strict}: `signals`: " in told.stderr
