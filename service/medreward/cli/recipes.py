"""`medreward recipes`: the available recipes, without loading a model."""

from collections.abc import Mapping

from pydantic import ValidationError
from rich.text import Text

from medreward.cli.environment import read_settings
from medreward.cli.jsonl import BadLine, Line
from medreward.cli.tables import NOTHING, TITLES, facts_grid, plain_table, short
from medreward.cli.terminal import CommandError, Misuse, output, shown
from medreward.engines.templates import Template, load_templates
from medreward.errors import InvalidRequest
from medreward.http.schemas import RecipeReply, RecipesReply
from medreward.parsing.references import check_modalities
from medreward.recipes.recipe import UNIT, Recipe, Tags, Thresholded, load_recipes, recipe_with
from medreward.samples import Sample
from medreward.settings import Settings
from medreward.signals.registry import SHIPPED, load_kinds


def print_recipes() -> None:
    """List the recipes.

    Raises:
        SetupError: a recipe file is wrong.
    """
    settings = read_settings()
    console, templates = output(), load_templates()
    table = plain_table("recipe", "weights", "tags", "template", "fingerprint")
    for recipe in load_recipes(settings.recipes, load_kinds(settings.signals)).values():
        is_default = recipe.name == settings.recipe
        table.add_row(
            shown(recipe.name, "bold" if is_default else "").append(" *" if is_default else ""),
            shown(_weights(recipe)),
            shown(_tags(recipe.tags)),
            shown(recipe.template),
            _fingerprint(recipe, templates, whole=False),
        )
    console.print(table)
    console.print(Text("* scores requests that name none (MEDREWARD_RECIPE)", "dim"))


def print_recipe(name: str) -> None:
    """Print all fields of one recipe.

    Raises:
        Misuse: no recipe has that name.
        SetupError: a recipe file is wrong.
    """
    recipe, console = find_local_recipe(read_settings(), name), output()
    templates = load_templates()
    console.print(shown(f"{recipe.name}, version {recipe.version}", "bold"))
    console.print(shown(f"{recipe.description}\n"))
    console.print(facts_grid(_facts(recipe, templates)))
    table = plain_table("signal", "weight", "threshold", "needs")
    for title, signal in recipe.signals:
        threshold = f"{signal.threshold:g}" if isinstance(signal, Thresholded) else NOTHING
        needs = shown(", ".join(recipe.needs[title]) or NOTHING)
        table.add_row(title, f"{signal.weight:.6g}", threshold, needs)
    console.print(table)


def _facts(recipe: Recipe, templates: Mapping[str, Template]) -> dict[str, Text | str]:
    template = templates.get(recipe.template)
    shows = template is not None and template.shows_question
    question = "shows the question" if shows else "shows no question"
    return {
        "fingerprint": _fingerprint(recipe, templates, whole=True),
        "template": shown(f"{recipe.template}, {question}"),
        "tags": shown(_tags(recipe.tags)),
        "modalities": shown(", ".join(recipe.tags.modalities) or "none"),
        "white space": "removed around < > /" if recipe.tags.tighten else "left as it is",
        "rejected": shown(_rejected(recipe)),
        **_guards(recipe),
        **({} if recipe.bounds == UNIT else {"range": "{:g} to {:g}".format(*recipe.bounds)}),
    }


def _guards(recipe: Recipe) -> dict[str, Text | str]:
    if recipe.guards is None:
        return {"guards": "none"}
    told: dict[str, Text | str] = {"guards": shown(", ".join(recipe.guards.checks) or "none")}
    needs = ["with the question and without"] if recipe.guards.both_views else []
    if recipe.guards.witness_cosine is not None:
        floor = recipe.guards.witness_cosine
        needs.append(f"a witness: a word in common, a cosine ≥ {floor:g}, or another engine")
    return told | {"a YES needs": shown("; ".join(needs) or "the judge alone")}


def _weights(recipe: Recipe) -> str:
    told = []
    for name, signal in recipe.signals:
        line = f"{TITLES.get(name, name)} {signal.weight:.4g}"
        if isinstance(signal, Thresholded):
            line += f" (≥ {signal.threshold:g}{', times judge' if signal.gated else ''})"
        told.append(line)
    return "\n".join(told)


def _tags(tags: Tags) -> str:
    modality = ["<MODALITY>"] if tags.modalities else []
    thinking = [f"<{tags.thinking}>"] if tags.thinking else []
    if tags.answer is None:
        answer = []
    else:
        answer = ["\\boxed{}" if tags.answer == "\\boxed" else f"<{tags.answer}>"]
    return " ".join([*modality, *thinking, *answer]) or "none"


def _rejected(recipe: Recipe) -> str:
    told = [f"answers under {recipe.rules.min_answer_characters} characters"]
    if recipe.rules.needs_answer_tag:
        told.append("without exactly one answer tag")
    if recipe.rules.rejected_substrings:
        told.append("with " + " or ".join(map(repr, recipe.rules.rejected_substrings)))
    return ", or ".join(told)


def _fingerprint(recipe: Recipe, templates: Mapping[str, Template], *, whole: bool) -> Text:
    if not templates.keys() >= set(recipe.templates):
        return Text("none: there is no such template", "red")
    fingerprint = recipe.fingerprint(*(templates[name].sha for name in recipe.templates))
    return shown(fingerprint if whole else short(fingerprint), "dim")


def find_local_recipe(settings: Settings, name: str | None) -> Recipe:
    """Find a recipe of this machine; without a name, the default one.

    Raises:
        Misuse: no recipe has that name.
        SetupError: a recipe file is wrong.
    """
    recipes = load_recipes(settings.recipes, load_kinds(settings.signals))
    wanted = name or settings.recipe
    if wanted not in recipes:
        raise Misuse(f"no recipe {wanted!r}; choose from {', '.join(recipes)}")
    return recipes[wanted]


def find_recipe(known: RecipesReply, name: str | None) -> RecipeReply:
    """Find a recipe of a service; without a name, its default one.

    Raises:
        Misuse: no recipe of the service has that name.
    """
    by_name = {recipe.name: recipe for recipe in known.recipes}
    found = by_name.get(name or known.default)
    if found is None:
        raise Misuse(f"no recipe {name or known.default!r} here; choose from {', '.join(by_name)}")
    return found


def rebuild_recipe(reply: RecipeReply) -> Recipe | None:
    """Build a recipe from its description; None if another version's description does not fit."""
    try:
        return recipe_with(SHIPPED).model_validate(
            reply.model_dump(exclude={"fingerprint", "needs"})
        )
    except ValidationError:
        return None


def readable_recipe(url: str, known: RecipesReply, name: str | None) -> Recipe:
    """Find and build a recipe of the service at *url*.

    Raises:
        Misuse: no recipe of the service has that name.
        CommandError: the service's version describes recipes in another way.
    """
    reply = find_recipe(known, name)
    recipe = rebuild_recipe(reply)
    if recipe is None:
        raise CommandError(
            f"{url} describes the recipe {reply.name!r} in a way that this version cannot read; "
            "use the version of medreward that runs there"
        )
    return recipe


def unknown_modality(line: Line[Sample], recipe: Recipe) -> BadLine | None:
    """Return the line as a bad one if its modality is not among the recipe's."""
    try:
        check_modalities((line.value,), recipe)
    except InvalidRequest as exc:
        return BadLine(line.number, str(exc).removeprefix("samples[0]."))
    return None
