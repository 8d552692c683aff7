"""References: bare texts, their modality, and what is wrong with them."""

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
    """Refuse a modality that is none of the recipe's: it would cost every such sample its signal.

    *name* tells what the caller calls the modality of a sample.

    Raises:
        InvalidRequest: naming the sample and the choices.
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
    """What the references say, taken apart."""

    texts: tuple[str, ...]
    modality: str | None
    is_contradictory: bool = False
    """They name different modalities, or another than the sample."""


def take_references_apart(sample: Sample, recipe: Recipe) -> ParsedReferences:
    """Give the bare references, and the modality if any is known.

    A reference such as "<X_RAY>left lower lobe" is taken apart at a modality tag at its start:
    one of the recipe's, or of MediX-R1's sixteen, which such data sets have.
    """
    pattern = _modality_tag((*recipe.tags.modalities, *MEDIX_MODALITIES))
    # In the order in which they are met: what a set gives first differs from process to process.
    named = [_bare_tag(sample.modality)] if sample.modality else []
    texts = []
    for reference in sample.references:
        text = reference.lstrip()
        if found := pattern.match(text):
            named.append(found[1].upper())
            text = text[found.end() :]
        texts.append(_bare_reference(text))
    named = [tag for tag in named if tag]
    return ParsedReferences(
        texts=tuple(texts),
        modality=named[0] if named else None,
        is_contradictory=len(named) > 1 and len(set(named)) > 1,
    )


@lru_cache(maxsize=64)
def _modality_tag(modalities: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(f"<({'|'.join(modalities)})>", re.IGNORECASE | re.ASCII)


def _bare_reference(text: str) -> str:
    return text.strip().strip(".")


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
