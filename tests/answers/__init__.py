"""Labelled answers of our own, with which rules, guards and judges are developed and measured."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

FILE = Path(__file__).with_name("development.jsonl")

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


def load(split: Split | None = None) -> tuple[LabelledAnswer, ...]:
    """Read the labelled answers of one split, or of both."""
    lines = FILE.read_text("utf-8").splitlines()
    answers = [LabelledAnswer(**json.loads(line)) for line in lines]
    return tuple(answer for answer in answers if split in {None, answer.split})
