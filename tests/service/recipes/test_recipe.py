"""Recipes: data that is refused at start where it is wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest

from medreward.engines.templates import load_templates
from medreward.errors import SetupError
from medreward.recipes.recipe import Recipe, Tags, load_recipes, read_recipe

MINIMAL = """
name = "mine"
version = 1
description = "Judge and format."
template = "equivalence"

[tags]
thinking = "think"
answer = "answer"

[signals.accuracy_llm]
weight = 0.9

[signals.format]
weight = 0.1
"""


def test_medix_r1_has_the_published_weights_and_threshold() -> None:
    """The built-in recipe is 0.9 of the three accuracies and modality, and 0.1 of the format."""
    recipe = load_recipes()["medix-r1"]

    assert recipe.weights == {
        "accuracy_llm": 0.9 * 0.575,
        "accuracy_embed": pytest.approx(0.9 * 0.375, abs=1e-15),
        "modality": pytest.approx(0.9 * 0.05, abs=1e-15),
        "format": 0.1,
    }
    assert recipe.signals.accuracy_embed is not None
    assert recipe.signals.accuracy_embed.threshold == 0.8
    assert len(recipe.tags.modalities) == 16


def test_medix_r1_keeps_its_fingerprint() -> None:
    """What recipes can say since leaves the published one what it was, to the bit."""
    recipe = load_recipes()["medix-r1"]

    assert recipe.fingerprint(load_templates()["match"].sha) == (
        "sha256:bc152162ab00dc7b1e4456be5197fc177d4c433fd70cfd9488e396de655168c3"
    )


def test_the_guarded_recipe_pays_the_embedding_only_behind_the_judge() -> None:
    """0.75 for the judge, 0.10 for an embedding that it gates, 0.05 and 0.10 for the rest."""
    recipe = load_recipes()["medix-r1-guarded"]

    assert recipe.weights == {
        "accuracy_llm": 0.75,
        "accuracy_embed": 0.10,
        "modality": 0.05,
        "format": 0.10,
    }
    assert recipe.signals.accuracy_embed is not None
    assert recipe.signals.accuracy_embed.gated
    assert recipe.wants_witness


def test_what_guards_know_is_part_of_a_recipes_fingerprint() -> None:
    """A recipe with guards and one without differ, and a choice of guards is a difference."""
    plain = read_recipe(MINIMAL, source="test")
    guarded = read_recipe(MINIMAL + '\n[guards]\nchecks = ["hedge"]\n', source="test")
    other = read_recipe(MINIMAL + '\n[guards]\nchecks = ["length"]\n', source="test")

    assert len({recipe.fingerprint("") for recipe in (plain, guarded, other)}) == 3


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("[signals.accuracy_llm]", "[signals.acuracy_llm]"), "did you mean `accuracy_llm`?"),
        (("[signals.accuracy_llm]", "[signals.bleu]"), "choose from accuracy_llm, accuracy_embed"),
        (("weight = 0.9", "weight = 0.8"), "add up to 1; these add up to 0.9"),
        (("weight = 0.9", "weight = nan"), "signals.accuracy_llm.weight"),
        (("weight = 0.9", "wieght = 0.9"), "did you mean `weight`?"),
        (("[tags]", '[guards]\nchecks = ["hegde"]\n[tags]'), "guards.checks"),
        (("[tags]", "[guards]\nwitness_cosine = 0.7\n[tags]"), "needs accuracy_llm and"),
        (('answer = "answer"', 'answer = "none"\n[rules]\nneeds_answer_tag = true'), "tags.answer"),
        (("[signals.accuracy_llm]", "[signals.accuracy_embed]\nthreshold = 1.5"), "threshold"),
        (("[signals.accuracy_llm]", "[signals.accuracy_embed]"), "threshold`: Field required"),
        (("[signals.accuracy_llm]", "[signals.modality]"), "needs `tags.modalities`"),
        (('thinking = "think"', 'thinking = "<think>"'), "tags.thinking"),
        (('name = "mine"', 'name = "Mine!"'), "name"),
        (("version = 1\n", ""), "`version`: Field required"),
        (("version = 1", "version = = 1"), "not TOML"),
    ],
)
def test_a_wrong_recipe_is_refused_with_the_key_and_the_remedy(
    change: tuple[str, str], told: str
) -> None:
    """The refusal names the file, the key, and where it can what was meant."""
    with pytest.raises(SetupError, match=r"recipe mine\.toml: ") as refusal:
        read_recipe(MINIMAL.replace(*change), source="mine.toml")

    assert told in str(refusal.value)


def test_recipes_come_from_the_users_files_and_folders_too(tmp_path: Path) -> None:
    """A file and a folder of files are loaded beside the built-in ones."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "mine.toml").write_text(MINIMAL)
    (tmp_path / "other.toml").write_text(MINIMAL.replace('"mine"', '"other"'))

    found = set(load_recipes([folder, tmp_path / "other.toml"]))

    assert found == {"medix-r1", "medix-r1-guarded", "mine", "other"}


@pytest.mark.parametrize(
    ("prepare", "told"),
    [
        (lambda path: path.mkdir(), r"no recipe \(\*\.toml\)"),
        (lambda _: None, "No such file"),
        (lambda path: path.write_bytes(b"\xff"), "decode"),
        (lambda path: path.write_text(MINIMAL.replace("mine", "medix-r1")), "is taken"),
    ],
    ids=["an empty folder", "nothing there", "not UTF-8", "a name taken"],
)
def test_a_path_without_a_usable_recipe_is_refused(
    tmp_path: Path, prepare: Callable[[Path], object], told: str
) -> None:
    """A deployment does not start without the recipes it was told to load."""
    path = tmp_path / "recipes"
    prepare(path)

    with pytest.raises(SetupError, match=told):
        load_recipes([path])


def _changed(**update: object) -> Recipe:
    recipe = read_recipe(MINIMAL, source="mine.toml")
    return recipe.model_copy(update=update)


@pytest.mark.parametrize(
    ("recipe", "template_sha"),
    [
        (_changed(name="other"), "sha"),
        (_changed(version=2), "sha"),
        (_changed(template="match"), "sha"),
        (_changed(tags=_changed().tags.model_copy(update={"tighten": True})), "sha"),
        (_changed(rules=_changed().rules.model_copy(update={"min_answer_characters": 2})), "sha"),
        (_changed(signals=load_recipes()["medix-r1"].signals), "sha"),
        (_changed(), "another wording of the judge's template"),
    ],
)
def test_whatever_can_change_a_reward_changes_the_fingerprint(
    recipe: Recipe, template_sha: str
) -> None:
    """Name, version, tags, rules, weights and the judge's wording are all in the fingerprint."""
    assert recipe.fingerprint(template_sha) != _changed().fingerprint("sha")


def test_a_description_does_not_change_the_fingerprint() -> None:
    """Words for people change no reward."""
    assert _changed(description="Other words").fingerprint("sha") == _changed().fingerprint("sha")


@pytest.mark.parametrize(
    ("table", "tags"),
    [
        ('[tags]\nthinking = "think"\nanswer = "none"', Tags(thinking="think", answer=None)),
        ('[tags]\nthinking = "none"\nanswer = "\\\\boxed"', Tags(thinking=None, answer="\\boxed")),
        ("[tags]", Tags()),
    ],
)
def test_tags_may_be_left_out_one_by_one(table: str, tags: Tags) -> None:
    """A box, an answer straight after the thinking, or the defaults."""
    text = MINIMAL.replace('[tags]\nthinking = "think"\nanswer = "answer"', table)

    assert read_recipe(text, source="mine.toml").tags == tags


def test_a_recipe_may_have_no_tags_at_all() -> None:
    """A policy that marks nothing up is judged by its whole response."""
    text = """
name = "plain"
version = 1
description = "The judge alone."
template = "equivalence"
tags = "none"
signals.accuracy_llm.weight = 1.0
"""

    assert read_recipe(text, source="plain.toml").tags == Tags(thinking=None, answer=None)
