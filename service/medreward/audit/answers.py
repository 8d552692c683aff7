"""The suite of answers: the development set, which docs/development_set.md describes."""

import json
from dataclasses import dataclass
from importlib import resources
from typing import Literal

from medreward.audit.cases import Case

FILE = resources.files("medreward.audit") / "answers.jsonl"
DENIALS = frozenset({"denial", "negation", "normal"})
"""Kinds of answers that deny a finding, take back a denial, or call something normal."""
SHORT = frozenset({"bare", "boxed", "final", "markdown", "stop"})
"""Forms of a term without a sentence around it."""

Split = Literal["tuning", "testing"]


@dataclass(frozen=True, slots=True)
class LabelledAnswer:
    """An answer to a question, with the reference and an examiner's label."""

    id: str
    family: str
    """Questions about the same fact; a family lies whole in one split."""
    style: Literal["vqa", "multiple_choice", "yes_no_maybe", "impression", "number"]
    split: Split
    kind: str
    """What differs from the reference: a fact if the answer is wrong, the wording if it is right."""
    form: str
    question: str
    reference: str
    answer: str
    label: Literal["right", "wrong"]

    @property
    def stratum(self) -> str:
        """The first stratum that fits; docs/audit.md lists them in this order."""
        if self.style == "yes_no_maybe" or self.reference.partition(",")[0] in {"Yes", "No"}:
            return "yes_no"
        if self.style == "multiple_choice":
            return "option"
        if self.style == "number":
            return "quantity"
        if self.kind in DENIALS:
            return "denial"
        if self.style == "impression" or self.form == "explained":
            return "long"
        return "question" if self.form in SHORT else "sentence"


def labelled_answers(split: Split | None = None) -> tuple[LabelledAnswer, ...]:
    """Read the labelled answers of one split, or of both."""
    lines = FILE.read_text("utf-8").splitlines()
    rows = [LabelledAnswer(**json.loads(line)) for line in lines]
    return tuple(row for row in rows if split in {None, row.split})


def answers() -> list[Case]:
    """Return every labelled answer; those of the testing half are held out."""
    return [
        Case(
            "answer",
            row.stratum,
            row.answer,
            row.reference,
            equivalent=row.label == "right",
            question=row.question,
            held_out=row.split == "testing",
        )
        for row in labelled_answers()
    ]
