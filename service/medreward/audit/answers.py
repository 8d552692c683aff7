"""The development set, which docs/development_set.md describes."""

import json
from dataclasses import dataclass
from importlib import resources
from typing import Literal

FILE = resources.files("medreward.audit") / "answers.jsonl"

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


def labelled_answers(split: Split | None = None) -> tuple[LabelledAnswer, ...]:
    """Read the labelled answers of one split, or of both."""
    lines = FILE.read_text("utf-8").splitlines()
    rows = [LabelledAnswer(**json.loads(line)) for line in lines]
    return tuple(row for row in rows if split in {None, row.split})
