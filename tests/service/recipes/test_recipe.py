"""Recipes: data that is refused at start where it is wrong."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import BaseModel

from medreward.engines.templates import load_templates
from medreward.errors import SetupError
from medreward.recipes.recipe import Recipe, Tags, load_recipes, read_recipe, recipe_with
from medreward.signals.kind import SignalKind
from medreward.signals.registry import SHIPPED, KnownKind

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
        (("weight = 0.9", "weight = 1.9"), "accuracy_llm is not between 0 and 1"),
        (("weight = 0.9", "weight = -0.9"), "other weights need `range`"),
        (("version = 1", "version = 1\nrange = [0, 0.9]"), "write `range = [0, 1]`"),
        (("version = 1", "version = 1\nrange = [1, 1]"), "has to be below the greatest"),
        (("version = 1", "version = 1\nrange = [0, inf]"), "range.1"),
        (("[signals.accuracy_llm]", "[signals.rubric]\nlowst = -1"), "did you mean `lowest`?"),
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

    assert found == {*load_recipes(), "mine", "other"}


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


SIGNED = MINIMAL.replace("version = 1", "version = 1\nrange = [-2.0, 3.0]")


@pytest.mark.parametrize(
    ("weights", "computed"),
    [((3.0, -2.0), (-2.0, 3.0)), ((1.0, -1.0), (-1.0, 1.0)), ((0.0, 0.5), (0.0, 0.5))],
)
def test_a_recipe_that_declares_its_range_may_have_any_weights(
    weights: tuple[float, float], computed: tuple[float, float]
) -> None:
    """Negative ones too, and such as add up to 0, as long as the rewards stay in the range."""
    judge, form = weights
    text = SIGNED.replace("weight = 0.9", f"weight = {judge}").replace(
        "weight = 0.1", f"weight = {form}"
    )

    recipe = read_recipe(text, source="test")

    assert recipe.computed_range == computed
    assert recipe.bounds == (-2.0, 3.0)
    assert [recipe.to_unit(reward) for reward in (-2.0, 0.5, 3.0)] == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("judge", "form"), [("1e308", "1e308"), ("1e308", "-1e308"), ("inf", "0.0")]
)
def test_weights_that_no_reward_can_hold_are_refused(judge: str, form: str) -> None:
    """Their sum, or the width of the range, would be infinite."""
    text = SIGNED.replace("weight = 0.9", f"weight = {judge}")

    with pytest.raises(SetupError, match=r"accuracy_llm\.weight"):
        read_recipe(text.replace("weight = 0.1", f"weight = {form}"), source="test")


@pytest.mark.parametrize(
    ("weights", "modality", "left"),
    [
        ((0.6, 0.1), 0.3, {"accuracy_llm": 0.6 / 0.7, "format": 0.1 / 0.7}),
        ((0.5, -0.5), 0.3, {"accuracy_llm": 0.5, "format": -0.5}),
        ((0.5, 0.2), -0.7, {"accuracy_llm": 0.5, "format": 0.2}),
    ],
)
def test_without_a_modality_sums_that_cannot_be_scaled_stay(
    weights: tuple[float, float], modality: float, left: dict[str, float]
) -> None:
    """Weights that add up to nothing, or less, are not divided by their sum."""
    text = SIGNED.replace("weight = 0.9", f"weight = {weights[0]}").replace(
        "weight = 0.1", f"weight = {weights[1]}\n[signals.modality]\nweight = {modality}"
    )
    text = text.replace("[tags]", '[tags]\nmodalities = ["X_RAY"]')

    assert read_recipe(text, source="test").weights_without_modality == pytest.approx(left)


class Words(BaseModel):
    """The most words of an answer."""

    most_words: int = 9


KIND = SignalKind(Words, BaseModel, lambda *_: 0.5, range=lambda o: (-o.most_words, 1.0))
MODEL = recipe_with({"brevity": KnownKind(KIND)})
BREVITY = SIGNED.replace("-2.0", "-9.0") + "\n[signals.brevity]\nweight = 1\nmost_words = 8\n"


def test_a_kind_of_signal_is_a_table_of_a_recipe() -> None:
    """It has a weight, the kind's options, and the kind's range under them."""
    recipe = read_recipe(BREVITY, source="test", model=MODEL)

    assert recipe.weights["brevity"] == 1.0
    assert recipe.computed_range == (-8.0, 2.0)
    assert recipe.kind_signals["brevity"].options.model_dump() == {"weight": 1, "most_words": 8}
    assert MODEL.model_validate(recipe.model_dump()) == recipe


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("most_words", "most_wrods"), "did you mean `most_words`?"),
        (("most_words = 8", 'most_words = "few"'), "`signals.brevity.most_words`"),
        (("[signals.brevity]", "[signals.brevty]"), "did you mean `brevity`?"),
        (("weight = 1\n", ""), "`signals.brevity.weight`: Field required"),
        (("most_words = 8", "most_words = 80"), "not within -9 to 3"),
    ],
)
def test_a_wrong_table_of_a_kind_is_refused_with_the_key(
    change: tuple[str, str], told: str
) -> None:
    """As for the other signals."""
    with pytest.raises(SetupError) as refusal:
        read_recipe(BREVITY.replace(*change), source="mine.toml", model=MODEL)

    assert told in str(refusal.value)


class Limits(BaseModel):
    """Inputs of which one has a default."""

    most: int
    least: int = 0


def test_a_signal_says_what_it_needs() -> None:
    """A kind needs what it declares, and the keys of `extra` without a default."""
    kind = SignalKind(Words, Limits, lambda *_: 0.5, needs=("reference",))
    text = SIGNED + "\n[signals.limits]\nweight = 0\nmost_words = 1\n"
    recipe = read_recipe(text, source="test", model=recipe_with({"limits": KnownKind(kind)}))

    assert recipe.needs["limits"] == ("reference", "extra.most")
    assert recipe.needs["accuracy_llm"] == ("judge", "reference")
    assert recipe.judged == {"accuracy_llm": "equivalence"}


def test_an_unknown_key_inside_of_a_list_is_refused_in_words() -> None:
    """Such as one of a check, of which the path has a number."""
    model = recipe_with(SHIPPED)
    checks = '[[signals.style_checks.checks]]\nkind = "json"\nkyes = ["a"]\n'
    text = f"{SIGNED}\n[signals.style_checks]\nweight = 1\n{checks}"

    with pytest.raises(SetupError, match=r"kyes`: unknown key; leave it out"):
        read_recipe(text, source="mine.toml", model=model)


def test_the_version_of_a_kind_is_in_the_fingerprint() -> None:
    """A kind that gives another value for the same inputs is another version, so another recipe."""
    newer = recipe_with({"brevity": KnownKind(replace(KIND, version=2))})
    recipes = [read_recipe(BREVITY, source="test", model=model) for model in (MODEL, newer)]

    assert len({recipe.fingerprint("") for recipe in recipes}) == 2


def test_the_template_of_criteria_is_in_the_fingerprint() -> None:
    """A recipe with a rubric beside the reference has two templates, each in its fingerprint."""
    recipe = load_recipes()["medix-r1-guarded-rubric"]

    assert recipe.templates == ("equivalence", "rubric")
    assert recipe.fingerprint("sha", "one") != recipe.fingerprint("sha", "other")
