"""The requests about a case, and its outcome."""

from typing import NamedTuple

from medreward.audit.cases import Case
from medreward.engines.judge import Verdict
from medreward.http.schemas import ItemResult, SampleResult
from medreward.recipes.recipe import Tags
from medreward.samples import Item, Sample

THINKING = "I compare what I see with what I know."
PAYS_FROM = 0.5
"""Lowest accuracy that counts as paid; a hard recipe gives only 0 and 1."""


class Outcome(NamedTuple):
    """A case, its verdict and its reward."""

    case: Case
    verdict: Verdict | None = None
    """Verdict of the judge alone; None if it gave none."""
    p_yes: float | None = None
    """0 or 1 for an empty answer or an equal one; None without a verdict."""
    unjudged: str | None = None
    """The kind of problem that prevented the verdict."""
    is_paid: bool = False
    """True if the recipe treated the answer as right."""
    reward: float | None = None
    refused_by: str | None = None
    """The rule that rejected the answer without a model call."""
    unscored: str | None = None
    """The kind of problem that prevented the reward."""
    is_lost: bool = False
    """True if the reward is missing because of an outage, not because of the case."""
    graded: Verdict | None = None
    """Verdict of `/judge` with its rules and guards; None without one."""

    @property
    def is_misjudged(self) -> bool:
        """True if the judge gave the wrong verdict."""
        return self.verdict is not None and (self.verdict == "YES") != self.case.equivalent

    @property
    def is_mispaid(self) -> bool:
        """True if the recipe treated a wrong answer as right, or a right one as wrong."""
        return not self.is_lost and self.is_paid != self.case.equivalent


def item_of(case: Case) -> Item:
    """Build the `/judge` item of a case."""
    return Item(answer=case.answer, reference=case.reference, question=case.question)


def sample_of(case: Case, tags: Tags) -> Sample:
    """Build the `/reward` sample of a case, in exactly the form that the recipe asks for."""
    return Sample(
        response=response(case.answer, tags),
        reference=case.reference,
        question=case.question,
        modality=tags.modalities[0] if tags.modalities else None,
    )


def response(answer: str, tags: Tags) -> str:
    """Put an answer between the tags that a recipe asks for."""
    heading = f"<{tags.modalities[0]}>" if tags.modalities else ""
    thinking = f"<{tags.thinking}>{THINKING}</{tags.thinking}>" if tags.thinking else ""
    if tags.answer is None:
        return heading + thinking + answer
    if tags.answer == "\\boxed":
        return f"{heading}{thinking}\\boxed{{{answer}}}"
    return f"{heading}{thinking}<{tags.answer}>{answer}</{tags.answer}>"


def outcome_of(case: Case, judged: ItemResult, graded: ItemResult, scored: SampleResult) -> Outcome:
    """Combine the results of `/judge`, without its rules and with them, and of `/reward`."""
    accuracy = scored.components.get("accuracy_llm") or scored.components.get("accuracy_embed")
    is_scored = scored.status == "scored"
    return Outcome(
        case=case,
        verdict=judged.verdict,
        p_yes=_p_yes(judged),
        unjudged=judged.error.kind if judged.error else None,
        is_paid=is_scored and accuracy is not None and accuracy.value >= PAYS_FROM,
        reward=scored.reward,
        refused_by=_refused_by(scored),
        unscored=scored.error.kind if scored.error else None,
        is_lost=scored.error is not None and scored.error.retryable,
        graded=graded.verdict,
    )


def _p_yes(judged: ItemResult) -> float | None:
    if judged.verdict is None or judged.p_yes is not None:
        return judged.p_yes
    return float(judged.verdict == "YES")


def _refused_by(scored: SampleResult) -> str | None:
    for name in ("accuracy_llm", "accuracy_embed"):
        part = scored.components.get(name)
        if part is not None and part.value == 0 and part.source in {"veto", "rule"}:
            return part.rule or part.source
    return None
