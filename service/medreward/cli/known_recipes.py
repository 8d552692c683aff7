"""The recipes that a service has, and what they make of a sample before any model is asked."""

from pydantic import ValidationError

from medreward.cli.failures import Misuse
from medreward.cli.files import BadLine, Line
from medreward.errors import InvalidRequest
from medreward.http.schemas import RecipeReply, RecipesReply
from medreward.parsing.references import check_modalities
from medreward.recipes.recipe import Recipe
from medreward.samples import Sample


def find_recipe(known: RecipesReply, name: str | None) -> RecipeReply:
    """Find a recipe; without a name, the service's default one.

    Raises:
        Misuse: it has none of that name.
    """
    by_name = {recipe.name: recipe for recipe in known.recipes}
    found = by_name.get(name or known.default)
    if found is None:
        raise Misuse(f"no recipe {name or known.default!r} here; choose from {', '.join(by_name)}")
    return found


def rebuild_recipe(reply: RecipeReply) -> Recipe | None:
    """Make a recipe of its description; None where that is another version's."""
    try:
        return Recipe.model_validate(reply.model_dump(exclude={"fingerprint"}))
    except ValidationError:
        return None


def unknown_modality(line: Line[Sample], recipe: Recipe) -> BadLine | None:
    """Tell whether a sample names a modality that the recipe does not know."""
    try:
        check_modalities((line.value,), recipe)
    except InvalidRequest as exc:
        return BadLine(line.number, str(exc).removeprefix("samples[0]."))
    return None
