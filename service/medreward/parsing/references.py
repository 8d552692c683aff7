"""References: their texts without tags, their modality, and their problems."""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from medreward.errors import InvalidRequest, Problem, ProblemKind
from medreward.recipes.recipe import Recipe
from medreward.samples import Limits, Sample, is_over, over_limit

MEDIX_MODALITIES = (
    *("X_RAY", "MICROSCOPY", "CLINICAL_PHOTOGRAPHY", "CT_SCAN", "GRAPHICS", "ANGIOGRAPHY"),
    *("PET_SCAN", "ULTRASOUND", "MRI_SCAN", "FUNDUS_PHOTOGRAPHY", "OCT_SCAN", "ENDOSCOPY"),
    *("MAMMOGRAPHY", "FLUOROSCOPY", "OTHER", "SPECT"),
)


def check_modalities(
    samples: tuple[Sample, ...],
    recipe: Recipe,
    name: Callable[[int], str] = "samples[{}].modality".format,
) -> None:
    """Refuse unknown modalities, since every such sample would lose its modality signal.

    *name* returns the request's name of a sample's modality field.

    Raises:
        InvalidRequest: a modality is not one of the recipe's; the message lists the choices.
    """
    known = recipe.tags.modality_names
    for number, sample in enumerate(samples):
        if known and sample.modality is not None and _bare_tag(sample.modality) not in known:
            raise InvalidRequest(
                f"{name(number)}: not a modality of the recipe {recipe.name!r}; "
                f"choose from {', '.join(recipe.tags.modalities)}, or leave it out"
            )


def _bare_tag(modality: str) -> str:
    return modality.strip().removeprefix("<").removesuffix(">").upper()


class ParsedReferences(NamedTuple):
    """References without their tags, and the modality that they name."""

    texts: tuple[str, ...]
    modality: str | None
    is_contradictory: bool = False
    """True if the references and the sample name different modalities."""


def parse_references(sample: Sample, recipe: Recipe) -> ParsedReferences:
    """Split references into text and modality tag, such as "<X_RAY>left lower lobe".

    A tag counts at the start of a reference, if it is one of the recipe's or of MediX-R1's
    sixteen, which its data sets contain.
    """
    pattern = _modality_tag((*recipe.tags.modalities, *MEDIX_MODALITIES))
    # A list keeps the order of occurrence: the first element of a set differs
    # between processes.
    named = [_bare_tag(sample.modality)] if sample.modality else []
    texts = []
    for reference in sample.references:
        text = reference.lstrip()
        if found := pattern.match(text):
            named.append(found[1].upper())
            text = text[found.end() :]
        texts.append(text.strip().strip("."))
    named = [tag for tag in named if tag]
    return ParsedReferences(
        texts=tuple(texts),
        modality=named[0] if named else None,
        is_contradictory=len(named) > 1 and len(set(named)) > 1,
    )


@lru_cache(maxsize=64)
def _modality_tag(modalities: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(f"<({'|'.join(modalities)})>", re.IGNORECASE | re.ASCII)


def reference_problem(found: ParsedReferences, limits: Limits) -> Problem | None:
    """Return the first problem of the references; None if a model can be asked about each."""
    if found.is_contradictory:
        return Problem(
            ProblemKind.INVALID_REFERENCE,
            "reference: its modality tag is not that of the sample, or of another reference",
        )
    for number, reference in enumerate(found.texts):
        if not reference or reference.isspace():
            return Problem(
                ProblemKind.INVALID_REFERENCE,
                f"{_name(number, found.texts)}: empty; give the ground truth as text",
            )
    for number, reference in enumerate(found.texts):
        if is_over(reference, limits.text_bytes):
            return over_limit(_name(number, found.texts), limits.text_bytes)
    return None


def _name(number: int, references: tuple[str, ...]) -> str:
    return "reference" if len(references) == 1 else f"reference[{number}]"
