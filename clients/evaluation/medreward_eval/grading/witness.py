"""Answers that a judge alone took for right: they have nothing of their reference in them.

Many a true answer is worded otherwise. But a judge that is too small for the answers says YES to
any that is fluent, and this is where that shows without a label.
"""

import re
import unicodedata
from string import ascii_uppercase
from typing import Final

from medreward_eval.grading.answers import read_answer
from medreward_eval.grading.choices import right_option
from medreward_eval.records import Graded, Prediction

STEM: Final = 5
"""Characters that words of one stem begin with alike: renal and renally, fracture and fractured."""
SHORT: Final = 3
"""Shorter words count only where a reference has no other, such as `no`."""

_WORD = re.compile(r"[^\W_]+")


def is_unwitnessed(graded: Graded, answer: str | None = None) -> bool:
    """Tell whether the judge said YES to an answer without a word or number of its reference.

    *answer* is that of the response, for who has read it already.
    """
    grade, prediction = graded.grade, graded.prediction
    if prediction.template == "report" or grade.settled_by != "judge" or grade.score != 1:
        return False
    if answer is None:
        answer = read_answer(prediction.response or "")
    wanted, said = _words(prediction.reference), {word[:STEM] for word in _words(answer)}
    telling = {word for word in wanted if len(word) >= SHORT or word.isdigit()} or wanted
    return said.isdisjoint(word[:STEM] for word in telling) and not _names_option(
        prediction, answer
    )


def _words(text: str) -> set[str]:
    return set(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def _names_option(prediction: Prediction, answer: str) -> bool:
    right = right_option(prediction.reference, prediction.options) if prediction.options else None
    return right is not None and ascii_uppercase[right] in _WORD.findall(answer)
