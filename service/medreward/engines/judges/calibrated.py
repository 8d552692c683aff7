"""A judge with calibrated probabilities, which abstains between two thresholds.

Map and thresholds are entries of a calibration, fitted on labels for each engine, template and
family of references; docs/calibration.md describes the labels and the fit.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import structlog

from medreward.engines.calibration import Calibration, Entry, family_of, logit
from medreward.engines.capacity import Capacity
from medreward.engines.judge import (
    CANNOT_ASSESS,
    Inquiry,
    Judge,
    Judgement,
    View,
    is_sound,
)
from medreward.engines.judges.time_budget import Answer, BatchBudget
from medreward.engines.templates import Template
from medreward.errors import Problem, ProblemKind, SetupError

log = structlog.get_logger(__name__)


class CalibratedJudge:
    """Maps an engine's P(YES), sets the threshold of the verdict, and may abstain.

    If it may abstain, an inquiry whose P(YES) lies between the thresholds is sent once more with the
    fields swapped, and the mean of the two, in logits, is compared with the same thresholds.
    Judgements without an entry in the calibration are returned unchanged.
    """

    def __init__(
        self,
        judge: Judge,
        calibration: Calibration,
        *,
        templates: Mapping[str, Template],
        abstains: bool = False,
        must_be_known: bool = False,
        timeout_s: float = 120.0,
    ) -> None:
        self.engine = judge
        """The engine without its calibration."""
        self._calibration = calibration
        self._templates = templates
        self._abstains = abstains
        self._must_be_known = must_be_known
        self._timeout_s = timeout_s

    @property
    def identity(self) -> str:
        """The engine's identity, with the calibration's fingerprint and the abstention."""
        if not self._own_entries():
            return self.engine.identity
        how = "+abstains" if self._abstains else ""
        return f"{self.engine.identity}{how}+calibration:{self._calibration.fingerprint[:12]}"

    @property
    def capacity(self) -> Capacity:
        """The batches that suit the engine."""
        return self.engine.capacity

    def can_answer(self, template: Template) -> bool:
        """Return True if the engine can answer *template*."""
        return self.engine.can_answer(template)

    async def start(self) -> None:
        """Start the engine, which may set its identity, and check the entries for it.

        Raises:
            SetupError: an entry is for a template that has changed, or a required entry is missing.
        """
        await self.engine.start()
        own = self._own_entries()
        for entry in own:
            template = self._templates.get(entry.template)
            if template is not None and template.sha != entry.template_sha:
                raise SetupError(
                    f"the calibration of the template {entry.template!r} is for another wording of "
                    "it: run `medreward calibrate` again, and set MEDREWARD_CALIBRATION"
                )
        if not own and self._must_be_known:
            raise SetupError(
                f"the calibration holds nothing for the judge {self.engine.identity!r}, which "
                "could not tell when to abstain: run `medreward calibrate` and set "
                "MEDREWARD_CALIBRATION, or set MEDREWARD_ABSTAIN=false"
            )
        log.info("judge_calibration", judge=self.engine.identity, entries=len(own))

    async def decide(self, inquiries: Sequence[Inquiry]) -> Sequence[Answer]:
        """Judge each inquiry, and those between the thresholds a second time with swapped fields."""
        budget = BatchBudget(self._timeout_s)
        told = await budget.ask(self.engine, inquiries)
        first = [self._calibrated(i, answer) for i, answer in zip(inquiries, told, strict=True)]
        if not self._abstains:
            return first
        again = {
            n: swapped(inquiry)
            for n, inquiry in enumerate(inquiries)
            if inquiry.reference is not None and self._is_unsure(inquiry, first[n])
        }
        looked = await budget.ask_if_possible(self.engine, list(again.values()))
        second = {
            n: self._calibrated(again[n], answer) for n, answer in zip(again, looked, strict=True)
        }
        return [self._settled(i, first[n], second.get(n)) for n, i in enumerate(inquiries)]

    async def aclose(self) -> None:
        """Release the engine's resources."""
        await self.engine.aclose()

    def _own_entries(self) -> list[Entry]:
        return [e for e in self._calibration.entries if e.engine == self.engine.identity]

    def _entry(self, inquiry: Inquiry) -> Entry | None:
        family = family_of(inquiry.reference or "")
        return self._calibration.find(self.engine.identity, inquiry.template.name, family)

    def _calibrated(self, inquiry: Inquiry, answer: Answer) -> Answer:
        """Calibrate a sound judgement; the pipeline refuses the others, so they stay unchanged."""
        entry = self._entry(inquiry)
        if entry is None or isinstance(answer, Problem) or not is_sound(answer, inquiry):
            return answer
        calibrated = _with_p_yes(answer, entry.calibrated(answer.p_yes))
        return replace(calibrated, threshold=entry.threshold)

    def _is_unsure(self, inquiry: Inquiry, answer: Answer) -> bool:
        entry = self._entry(inquiry)
        if entry is None or isinstance(answer, Problem) or not is_sound(answer, inquiry):
            return False
        # What cannot be assessed is told by its label: YES and NO share what is left.
        if answer.cannot_assess:
            return False
        return entry.no_below < answer.p_yes <= entry.yes_above

    def _settled(self, inquiry: Inquiry, first: Answer, second: Answer | None) -> Answer:
        """Return the final answer: the first, the mean of both judgements, or an abstention."""
        entry = self._entry(inquiry)
        if entry is None or isinstance(first, Problem) or not self._is_unsure(inquiry, first):
            return first
        if isinstance(second, Problem) and second.retryable:
            return second
        both = first if second is None or isinstance(second, Problem) else _mean(first, second)
        return _abstention(both, entry) if self._is_unsure(inquiry, both) else both


def swapped(inquiry: Inquiry) -> Inquiry:
    """Swap the fields of an inquiry; a question that its view hides stays hidden."""
    if inquiry.view is View.SWAPPED:
        return inquiry._replace(view=View.AS_WRITTEN)
    question = None if inquiry.view is View.WITHOUT_QUESTION else inquiry.question
    return inquiry._replace(view=View.SWAPPED, question=question)


def _abstention(judgement: Judgement, entry: Entry) -> Problem:
    return Problem(
        ProblemKind.JUDGE_ABSTAINED,
        f"judge: P(YES) {judgement.p_yes:.3f} lies between {entry.no_below:.3f} and "
        f"{entry.yes_above:.3f}",
    )


def _mean(first: Judgement, second: Judgement) -> Judgement:
    """Average two judgements in logits, in which evidence is additive."""
    mean = (logit(first.p_yes) + logit(second.p_yes)) / 2
    return _with_p_yes(first, 1.0 / (1.0 + math.exp(-mean)))


def _with_p_yes(judgement: Judgement, p_yes: float) -> Judgement:
    p = dict(zip(judgement.labels, judgement.probabilities, strict=True))
    # What cannot be assessed is not calibrated: it keeps its share.
    either = 1.0 - p.get(CANNOT_ASSESS, 0.0)
    p |= {"YES": p_yes * either, "NO": (1.0 - p_yes) * either}
    return replace(judgement, probabilities=tuple(p.values()))
