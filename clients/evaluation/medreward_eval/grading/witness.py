"""Answers that the judge called right although they share no word or number with their reference.

Right answers may use other words. But a judge that is too small says YES to any fluent answer,
and the share of such answers shows this without labels.
"""

import re
from string import ascii_uppercase
from typing import Final

from medreward_eval.grading.answers import read_answer
from medreward_eval.grading.choices import normalised, right_option
from medreward_eval.records import Graded

STEM: Final = 5
"""Words with this many first characters in common count as one stem: renal and renally."""
SHORT: Final = 3
"""Words of fewer characters count only if the reference has no longer one, such as `no`."""

_WORD = re.compile(r"[^\W_]+")


def is_unwitnessed(graded: Graded, answer: str | None = None) -> bool:
    """Return True if the judge said YES to an answer without a word or number of its reference.

    *answer* is the response's graded answer, if the caller has extracted it already.
    """
    grade, prediction = graded.grade, graded.prediction
    if prediction.template != "equivalence" or grade.settled_by != "judge" or grade.score != 1:
        return False
    if answer is None:
        answer = read_answer(prediction.response or "")
    wanted, said = _words(prediction.reference), {word[:STEM] for word in _words(answer)}
    telling = {word for word in wanted if len(word) >= SHORT or word.isdigit()} or wanted
    if not said.isdisjoint(word[:STEM] for word in telling):
        return False
    right = right_option(prediction.reference, prediction.options) if prediction.options else None
    return right is None or ascii_uppercase[right] not in _WORD.findall(answer)


def _words(text: str) -> set[str]:
    return set(_WORD.findall(normalised("NFKC", text).casefold()))
