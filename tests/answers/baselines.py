"""Trivial baselines: what the surface of an answer tells about its label."""

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import SequenceMatcher

from medreward.audit.answers import LabelledAnswer

NEGATIONS = frozenset(
    [
        "no",
        "not",
        "none",
        "never",
        "nor",
        "neither",
        "nothing",
        "without",
        "absent",
        "absence",
        "free",
        "negative",
        "cannot",
        "don",
        "doesn",
        "nicht",
        "kein",
        "keine",
        "non",
        "pas",
        "sin",
        "tampoco",
    ]
)
CARRIER = re.compile(
    r"it (?:is|was|should)\b|th(?:is|ese) (?:is|are)\b|there (?:is|are)\b|findings are\b"
    r"|final answer|the [\w ]+? (?:is|are|was|were|shows?)\b|\W*(?:answer|impression|conclusion)\b",
    re.IGNORECASE,
)


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def _share(row: LabelledAnswer) -> float:
    return len(_words(row.answer) & _words(row.reference)) / len(_words(row.reference))


def _jaccard(row: LabelledAnswer) -> float:
    said, meant = _words(row.answer), _words(row.reference)
    return len(said & meant) / len(said | meant)


def _negations(row: LabelledAnswer) -> float:
    return sum(word in NEGATIONS for word in re.findall(r"\w+", row.answer.lower()))


BASELINES: Mapping[str, Callable[[LabelledAnswer], float]] = {
    "length": lambda row: len(row.answer),
    "difference in length to the reference": lambda row: abs(len(row.answer) - len(row.reference)),
    "share of the reference's words": _share,
    "Jaccard overlap of the words": _jaccard,
    "similarity of the letters": lambda row: SequenceMatcher(
        None, row.answer.lower(), row.reference.lower(), autojunk=False
    ).ratio(),
    "negation words": _negations,
    "final stop": lambda row: row.answer.endswith((".", "。")),
    "carrier phrase": lambda row: CARRIER.match(row.answer) is not None,
}
"""A number for each answer; none of them knows medicine."""


def auc(rows: Sequence[LabelledAnswer], baseline: Callable[[LabelledAnswer], float]) -> float:
    """Return the share of pairs, right and wrong, with the right one higher; ties count half."""
    right = [baseline(row) for row in rows if row.label == "right"]
    wrong = [baseline(row) for row in rows if row.label == "wrong"]
    wins = sum((high > low) + (high == low) / 2 for high in right for low in wrong)
    return wins / (len(right) * len(wrong))
