"""Labels: the tokens that begin them, and a judgement from the tokens' probabilities."""

from collections.abc import Iterable, Mapping, Sequence

from medreward.engines.judge import Judgement
from medreward.engines.templates import Template
from medreward.errors import Problem, ProblemKind

MAX_COVERAGE = 1.01
SPACES = "\u0120\u2581"
"""Spaces as vocabularies write them; some servers return tokens in that form."""


def label_begun_by(token: str, labels: Sequence[str]) -> str | None:
    """Return the only label that begins with *token*, in any case; None for none or several."""
    begun = token.strip().lstrip(SPACES).upper()
    fitting = [label for label in labels if begun and label.startswith(begun)]
    return fitting[0] if len(fitting) == 1 else None


def masses_of(tokens: Iterable[tuple[str, float]], labels: Sequence[str]) -> dict[str, float]:
    """Sum the probabilities of each label's first tokens."""
    masses = dict.fromkeys(labels, 0.0)
    for token, probability in tokens:
        label = label_begun_by(token, labels)
        if label is not None:
            masses[label] += probability
    return masses


def judgement_from_masses(
    masses: Mapping[str, float], template: Template, coverage_floor: float
) -> Judgement | Problem:
    """Normalise the labels' probabilities to a judgement; a problem if their sum is below the floor."""
    coverage = sum(masses.values())
    # Servers round log-probabilities, so a sum may come out a little over 1.
    if not coverage_floor <= coverage <= MAX_COVERAGE or coverage == 0:
        return Problem(
            ProblemKind.JUDGE_UNPARSEABLE,
            f"judge: {coverage:.3f} of the probability fell on {'/'.join(template.labels)}; "
            f"the floor is {coverage_floor}",
        )
    shares = tuple(masses[label] / coverage for label in template.labels)
    return Judgement(template.labels, shares, min(1.0, coverage))


def forms_of(label: str) -> list[str]:
    """List the accepted forms of a label: upper, title and lower case, with and without a space."""
    cases = dict.fromkeys((label, label.title(), label.lower()))
    return [spaced for form in cases for spaced in (form, f" {form}")]


def own_ids(firsts: Mapping[str, set[int]]) -> dict[str, list[int]]:
    """Drop first tokens that several labels share; a label may keep none."""
    own: dict[str, list[int]] = {}
    for label, ids in firsts.items():
        others = set().union(*(other for name, other in firsts.items() if name != label))
        own[label] = sorted(ids - others)
    return own
