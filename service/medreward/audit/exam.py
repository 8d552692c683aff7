"""An exam of 60 plain pairs for a judge: one that fails it is not fit to train on."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, NamedTuple

from medreward.admission import Caller
from medreward.audit.cases import read_table
from medreward.audit.figures import Rate, rate
from medreward.engines.judge import Verdict
from medreward.errors import ProblemKind
from medreward.pipeline import ScoringContext, Trace, grade
from medreward.rewards.grade import Grade, Ungraded
from medreward.samples import Item

TEMPLATE: Final = "equivalence"

LEAST_BALANCED: Final = 0.8
"""Lowest balanced accuracy of a judge that passes.

A judge that always says the same has 0.5, and one that counts shared words has less than 0.7. The
pairs are plain; 0.8 leaves room for some synonyms and abbreviations that a judge does not know.
"""
MOST_WRONG_YES: Final = 0.1
"""Highest share of wrong answers with YES, 3 of 30: training multiplies what is paid by mistake.

The same share of right answers with NO only slows training down, so it has no limit of its own.
"""
LEAST_ANSWERED: Final = 0.5
"""Lowest share of the right and of the wrong pairs with a verdict; below it the exam has no result."""


class ExamPair(NamedTuple):
    """An answer to a question, with the reference."""

    kind: str
    """What the answer is, in words that complete "the judge says YES to"."""
    is_right: bool
    question: str
    reference: str
    answer: str

    @property
    def due(self) -> Verdict:
        """The verdict of a judge that is right."""
        return "YES" if self.is_right else "NO"


class Mark(NamedTuple):
    """A pair and the judge's verdict."""

    pair: ExamPair
    verdict: Verdict | None
    problem: ProblemKind | None = None
    """Reason for a missing verdict."""

    @property
    def is_failed(self) -> bool:
        """True if the verdict is the wrong one; a missing verdict is no failure."""
        return self.verdict not in {None, self.pair.due}


class Part(NamedTuple):
    """The marks of one kind of answers."""

    kind: str
    due: Verdict
    asked: int
    passed: Rate
    """Pairs with the due verdict, among those with a verdict."""

    @property
    def is_weak(self) -> bool:
        """True if most of the verdicts are wrong."""
        return 2 * self.passed.hits < self.passed.of

    @property
    def is_hole(self) -> bool:
        """True if every wrong answer of the kind got YES."""
        return self.due == "NO" and self.is_weak and self.passed.hits == 0


@dataclass(frozen=True, slots=True)
class ExamResult:
    """The marks of a judge, in the order of the exam, and what they are worth."""

    marks: tuple[Mark, ...]

    @property
    def failed(self) -> list[Mark]:
        """The pairs with the wrong verdict."""
        return [mark for mark in self.marks if mark.is_failed]

    @property
    def unanswered(self) -> list[ProblemKind]:
        """The problems of the pairs without a verdict."""
        return [mark.problem for mark in self.marks if mark.problem is not None]

    @property
    def parts(self) -> list[Part]:
        """The marks by kind."""
        kinds = groupby(self.marks, key=lambda mark: (mark.pair.kind, mark.pair.due))
        return [_part(kind, due, list(marks)) for (kind, due), marks in kinds]

    @property
    def right(self) -> Rate:
        """Right answers with YES, among those with a verdict."""
        return self._half("YES").passed

    @property
    def wrong(self) -> Rate:
        """Wrong answers with NO, among those with a verdict."""
        return self._half("NO").passed

    @property
    def balanced_accuracy(self) -> float | None:
        """Mean of both shares; None if too few pairs have a verdict."""
        halves = (self._half("YES"), self._half("NO"))
        if any(half.passed.of < LEAST_ANSWERED * half.asked for half in halves):
            return None
        return sum(half.passed.hits / half.passed.of for half in halves) / 2

    @property
    def is_passed(self) -> bool:
        """True if both limits are kept, and no kind of wrong answers got YES throughout.

        A policy would find such a kind and repeat it.
        """
        balanced, wrong = self.balanced_accuracy, self.wrong
        return (
            balanced is not None
            and balanced >= LEAST_BALANCED
            and wrong.of - wrong.hits <= MOST_WRONG_YES * wrong.of
            and not any(part.is_hole for part in self.parts)
        )

    def _half(self, due: Verdict) -> Part:
        return _part("", due, [mark for mark in self.marks if mark.pair.due == due])


def exam_pairs() -> tuple[ExamPair, ...]:
    """Read the pairs, the right ones first."""
    table = read_table("exam.toml")
    return tuple(
        ExamPair(kind, label == "right", *row)
        for label in ("right", "wrong")
        for kind, rows in table[label].items()
        for row in rows
    )


async def take_exam(context: ScoringContext, caller: Caller) -> ExamResult:
    """Ask the judge about every pair, once and without rules, as `/judge` would."""
    pairs = exam_pairs()
    items = [Item(answer=p.answer, reference=p.reference, question=p.question) for p in pairs]
    template = context.templates[TEMPLATE]
    grades = await grade(items, template, 1, None, context, caller=caller, trace=Trace())
    return ExamResult(tuple(map(_mark, pairs, grades)))


def _mark(pair: ExamPair, given: Grade | Ungraded) -> Mark:
    if isinstance(given, Ungraded):
        return Mark(pair, None, given.problem.kind)
    return Mark(pair, given.verdict)


def _part(kind: str, due: Verdict, marks: Sequence[Mark]) -> Part:
    passed = rate(not mark.is_failed for mark in marks if mark.verdict is not None)
    return Part(kind, due, len(marks), passed)
