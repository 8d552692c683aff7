"""Stage 3, second half: what is decided without a model, and the questions left open."""

from dataclasses import dataclass, replace

from medreward.completion import Completion, read_completion
from medreward.errors import InvalidRequest, Problem, ProblemKind
from medreward.recipe import Recipe
from medreward.signals import Signal
from medreward.wire import Sample

MEDIX_MODALITIES = (
    *("X_RAY", "MICROSCOPY", "CLINICAL_PHOTOGRAPHY", "CT_SCAN", "GRAPHICS", "ANGIOGRAPHY"),
    *("PET_SCAN", "ULTRASOUND", "MRI_SCAN", "FUNDUS_PHOTOGRAPHY", "OCT_SCAN", "ENDOSCOPY"),
    *("MAMMOGRAPHY", "FLUOROSCOPY", "OTHER", "SPECT"),
)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long the texts of one sample may be, in bytes of UTF-8."""

    response_bytes: int = 256 * 1024
    text_bytes: int = 16 * 1024
    """A question, a reference, a criterion, or an answer that a model is asked about."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known of a sample before any model is asked."""

    references: tuple[str, ...] = ()
    question: str | None = None
    completion: Completion | None = None
    """None where the response is over its limit and was not read."""
    modality: Signal | None = None
    """None where no modality is known."""
    accuracy: Signal | None = None
    """Judge and embedder alike, where a rule settles both; None where the models are asked."""
    problem: Problem | None = None
    """Why the sample cannot be scored, whatever the models say."""
    flags: tuple[str, ...] = ()

    @property
    def answer(self) -> str:
        """The answer that a model is asked about."""
        return self.completion.answer if self.completion else ""

    @property
    def is_open(self) -> bool:
        """Whether the models have to be asked."""
        return self.problem is None and self.accuracy is None


def read_sample(sample: Sample, recipe: Recipe, limits: Limits) -> Reading:
    """Take a sample apart and settle what the recipe's rules can."""
    if _bytes(sample.response) > limits.response_bytes:
        return Reading(problem=_over("response", limits.response_bytes))
    completion = read_completion(sample.response, recipe.tags)
    references = _take_references_apart(sample, recipe)
    reading = Reading(
        references=references.texts,
        question=sample.question,
        completion=completion,
        modality=_modality_signal(completion, references.modality),
        flags=_flags(completion, references.modality, recipe),
    )
    problem = _reference_problem(references, limits)
    return replace(reading, problem=problem) if problem else _settle(reading, recipe, limits)


def check_modalities(samples: tuple[Sample, ...], recipe: Recipe) -> None:
    """Refuse a modality that is none of the recipe's: it would cost every such sample its signal.

    Raises:
        InvalidRequest: naming the sample and the choices.
    """
    if not recipe.tags.modalities:
        return
    known = {tag.upper() for tag in recipe.tags.modalities}
    for number, sample in enumerate(samples):
        if sample.modality is not None and _bare_tag(sample.modality) not in known:
            raise InvalidRequest(
                f"samples[{number}].modality: not a modality of the recipe {recipe.name!r}; "
                f"choose from {', '.join(recipe.tags.modalities)}, or leave it out"
            )


def _bare_tag(modality: str) -> str:
    return modality.strip().removeprefix("<").removesuffix(">").upper()


def _bytes(text: str) -> int:
    # Most texts are far from their limit; only the others are worth encoding.
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _over(field: str, limit: int) -> Problem:
    return Problem(
        ProblemKind.TOO_LONG, f"{field}: over {limit} bytes; shorten it or raise the limit"
    )


def too_long(field: str, text: str, limits: Limits) -> Problem | None:
    """Tell whether a text is longer than a model should be asked about."""
    return _over(field, limits.text_bytes) if _bytes(text) > limits.text_bytes else None


@dataclass(frozen=True, slots=True)
class _References:
    """What the references say, taken apart."""

    texts: tuple[str, ...]
    modality: str | None
    is_contradictory: bool = False
    """They name different modalities, or another than the sample."""


def _take_references_apart(sample: Sample, recipe: Recipe) -> _References:
    """Give the bare references, and the modality if any is known.

    A reference such as "<X_RAY>left lower lobe" is taken apart at a modality tag at its start:
    one of the recipe's, or of MediX-R1's sixteen, which such data sets have.
    """
    tags = (*recipe.tags.modalities, *MEDIX_MODALITIES)
    pairs = [_split_tag(text, tags) for text in sample.references]
    own = _bare_tag(sample.modality) if sample.modality is not None else None
    # In the order in which they are met: what a set gives first differs from process to process.
    named = [tag for tag in dict.fromkeys((own, *(tag for tag, _ in pairs))) if tag]
    return _References(
        texts=tuple(_bare_reference(text) for _, text in pairs),
        modality=named[0] if named else None,
        is_contradictory=len(named) > 1,
    )


def _split_tag(text: str, modalities: tuple[str, ...]) -> tuple[str | None, str]:
    stripped = text.lstrip()
    if stripped.startswith("<"):
        for tag in modalities:
            opening = f"<{tag}>"
            if stripped[: len(opening)].upper() == opening.upper():
                return tag.upper(), stripped[len(opening) :]
    return None, text


def _bare_reference(text: str) -> str:
    return text.strip().strip(".")


def _reference_problem(found: _References, limits: Limits) -> Problem | None:
    if found.is_contradictory:
        return Problem(
            ProblemKind.INVALID_REFERENCE,
            "reference: its modality tag is not that of the sample, or of another reference",
        )
    references = found.texts
    for number, reference in enumerate(references):
        if not reference.strip():
            return Problem(
                ProblemKind.INVALID_REFERENCE,
                f"{_name(number, references)}: empty; give the ground truth as text",
            )
    checked = (too_long(_name(i, references), text, limits) for i, text in enumerate(references))
    return next((problem for problem in checked if problem), None)


def _name(number: int, references: tuple[str, ...]) -> str:
    return "reference" if len(references) == 1 else f"reference[{number}]"


def _modality_signal(completion: Completion, modality: str | None) -> Signal | None:
    if modality is None:
        return None
    return Signal(float(completion.heading.upper() == f"<{modality}>"), "rule")


def _flags(completion: Completion, modality: str | None, recipe: Recipe) -> tuple[str, ...]:
    flags = {
        "no_answer_tag": recipe.tags.answer is not None and not completion.has_answer_tag,
        "malformed": recipe.signals.format is not None and not completion.well_formed,
        "no_modality": recipe.signals.modality is not None and modality is None,
        "rejected_answer": _is_rejected(completion.answer, recipe),
    }
    return tuple(name for name, is_set in flags.items() if is_set)


def _is_rejected(answer: str, recipe: Recipe) -> bool:
    """Tell whether the recipe's rules call the answer wrong whatever the reference."""
    return len(answer) < recipe.rules.min_answer_characters or any(
        rejected in answer for rejected in recipe.rules.rejected_substrings
    )


def _settle(reading: Reading, recipe: Recipe, limits: Limits) -> Reading:
    """Decide the accuracies where a rule can: rejected before equal, as published."""
    if reading.completion is None:
        return reading
    answer = reading.completion.answer
    if _is_rejected(answer, recipe):
        return replace(reading, accuracy=Signal(0.0, "rule"))
    if answer in reading.references:
        return replace(reading, accuracy=Signal(1.0, "exact"))
    problem = too_long("answer", answer, limits)
    problem = problem or too_long("question", reading.question or "", limits)
    return replace(reading, problem=problem)
