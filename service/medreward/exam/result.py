"""The pairs of the exam, a judge's marks, and the floor: a judge below it is not fit to train on."""

import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import groupby
from typing import Final, NamedTuple

from medreward.engines.judge import Verdict
from medreward.engines.status import ExamScope, ExamStatus, JudgeExam
from medreward.errors import RETRYABLE, ProblemKind

LEAST_BALANCED: Final = 0.8
"""Lowest balanced accuracy of a judge that passes.

A judge that always says the same has 0.5, and one that counts shared words has less than 0.7. The
pairs are plain; 0.8 leaves room for some synonyms and abbreviations that a judge does not know.
"""
MOST_WRONG_YES: Final = 0.1
"""Highest share of wrong answers with YES: training multiplies what is paid by mistake.

The same share of right answers with NO only slows training down, so it has no limit of its own.
"""
LEAST_ANSWERED: Final = 0.5
"""Lowest share of the right and of the wrong pairs with a verdict; below it the exam has no result."""
REMEDY: Final = "Choose another, such as a larger language model (docs/engines.md)"


class ExamPair(NamedTuple):
    """An answer to a question, with the reference."""

    scope: ExamScope
    """`terms` if reference and answer are terms, without a verb or a number."""
    kind: str
    """What the answer is, in words that complete "the judge says YES to"."""
    due: Verdict
    """The verdict of a judge that is right."""
    question: str
    reference: str
    answer: str


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
    """The marks of some pairs with the same due verdict, as counts."""

    kind: str
    due: Verdict
    asked: int
    answered: int
    passed: int

    @property
    def share(self) -> float | None:
        """The due verdicts among the verdicts; None if too few pairs have one."""
        is_enough = self.answered and self.answered >= LEAST_ANSWERED * self.asked
        return self.passed / self.answered if is_enough else None

    @property
    def is_weak(self) -> bool:
        """True if most of the verdicts are wrong."""
        return 2 * self.passed < self.answered

    @property
    def is_hole(self) -> bool:
        """True if every wrong answer of the kind got YES."""
        return self.due == "NO" and self.is_weak and self.passed == 0


@dataclass(frozen=True, slots=True)
class ExamResult:
    """The marks of a judge, in the order of the exam, and what they are worth."""

    scope: ExamScope
    """The pairs by which the judge passes or fails. A judge of terms is asked the others too, which
    shows what it cannot read."""
    marks: tuple[Mark, ...]

    @property
    def failed(self) -> list[Mark]:
        """The pairs that count and have the wrong verdict."""
        return [mark for mark in self._counted if mark.is_failed]

    @property
    def unanswered(self) -> Counter[ProblemKind]:
        """The problems of the pairs that count and have no verdict."""
        return Counter(mark.problem for mark in self._counted if mark.problem is not None)

    @property
    def parts(self) -> list[Part]:
        """The marks that count, by kind."""
        return _by_kind(self._counted)

    @property
    def uncounted(self) -> list[Part]:
        """The other marks, by kind."""
        return _by_kind(mark for mark in self.marks if mark.pair.scope != self.scope)

    @property
    def right(self) -> Part:
        """The right answers that count."""
        return self._half("YES")

    @property
    def wrong(self) -> Part:
        """The wrong answers that count."""
        return self._half("NO")

    @property
    def balanced_accuracy(self) -> float | None:
        """Mean of both shares with the due verdict; None if too few pairs have a verdict."""
        right, wrong = self.right.share, self.wrong.share
        return None if right is None or wrong is None else (right + wrong) / 2

    @property
    def status(self) -> ExamStatus:
        """Passed if both limits are kept, and no kind of wrong answers got YES throughout.

        A policy would find such a kind and repeat it.
        """
        balanced, wrong = self.balanced_accuracy, self.wrong
        if balanced is None:
            return "no_result"
        is_passed = (
            balanced >= LEAST_BALANCED
            and wrong.answered - wrong.passed <= MOST_WRONG_YES * wrong.answered
            and not any(part.is_hole for part in self.parts)
        )
        return "passed" if is_passed else "failed"

    @property
    def is_worth_repeating(self) -> bool:
        """True if there is no result, and a missing verdict may come later."""
        return self.status == "no_result" and not RETRYABLE.isdisjoint(self.unanswered)

    @property
    def report(self) -> JudgeExam:
        """The outcome as replies and probes have it."""
        balanced = self.balanced_accuracy
        rounded = None if balanced is None else round(balanced, 3)
        return JudgeExam(status=self.status, scope=self.scope, balanced_accuracy=rounded)

    @property
    def advice(self) -> str:
        """What the judge gets wrong and what to do about it; empty if it passed."""
        if self.status == "passed":
            return ""
        if self.status == "no_result":
            return "Find out why the judge gives no verdict, and examine it again."
        return f"This judge {faults(self.parts)}. {REMEDY}."

    @property
    def _counted(self) -> list[Mark]:
        return [mark for mark in self.marks if mark.pair.scope == self.scope]

    def _half(self, due: Verdict) -> Part:
        return _part("", due, [mark for mark in self._counted if mark.pair.due == due])


def exam_pairs(scope: ExamScope) -> tuple[ExamPair, ...]:
    """Read the pairs for a judge of *scope*: whole answers alone, or terms and then whole answers."""
    text = resources.files("medreward.exam").joinpath("pairs.toml").read_text("utf-8")
    table = tomllib.loads(text)
    scopes: tuple[ExamScope, ...] = ("terms", "answers") if scope == "terms" else ("answers",)
    halves: tuple[tuple[str, Verdict], ...] = (("right", "YES"), ("wrong", "NO"))
    return tuple(
        ExamPair(part, kind, due, *row)
        for part in scopes
        for label, due in halves
        for kind, rows in table[part][label].items()
        for row in rows
    )


def faults(parts: Sequence[Part]) -> str:
    """Say how many pairs the judge gets wrong, and of which kinds most; empty if there are none."""
    halves: tuple[tuple[Verdict, Verdict, str], ...] = (
        ("YES", "NO", "wrong answers"),
        ("NO", "YES", "right answers"),
    )
    told = []
    for verdict, due, noun in halves:
        half = [part for part in parts if part.due == due]
        answered = sum(part.answered for part in half)
        failed = answered - sum(part.passed for part in half)
        weak = [part.kind for part in half if part.is_weak]
        if failed:
            examples = f", such as {', '.join(weak)}" if weak else ""
            told.append(f"says {verdict} to {failed} of {answered} {noun}{examples}")
    return "; it ".join(told)


def _by_kind(marks: Iterable[Mark]) -> list[Part]:
    kinds = groupby(marks, key=lambda mark: (mark.pair.kind, mark.pair.due))
    return [_part(kind, due, list(some)) for (kind, due), some in kinds]


def _part(kind: str, due: Verdict, marks: Sequence[Mark]) -> Part:
    answered = [mark for mark in marks if mark.verdict is not None]
    passed = [mark for mark in answered if not mark.is_failed]
    return Part(kind, due, len(marks), len(answered), len(passed))
