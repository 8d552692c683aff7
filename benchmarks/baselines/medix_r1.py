"""MediX-R1's published reward (arXiv 2602.23363) as it runs in a trainer: one blocking call a sample.

Unless it is given an embedder, that is a constant, and what is measured is the reading and the
judge's calls.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import requests

from verdicts import says_yes

MODEL = "Qwen/Qwen3-4B-Instruct-2507"
TIMEOUT_S = 60.0
PROMPT = """You compare a predicted answer to a medical question with the ground truth.
Do the two match in meaning? Begin your reply with YES or NO.
Predicted Answer: {answer}
Ground Truth: {reference}
"""


@dataclass(frozen=True, slots=True)
class Weights:
    """What each signal counts."""

    judge: float
    embed: float
    modality: float
    format: float


PUBLISHED = Weights(0.9 * 0.575, 0.9 * 0.375, 0.9 * 0.05, 0.1)
JUDGE_ALONE = Weights(0.9 * 0.95, 0.0, 0.9 * 0.05, 0.1)


@dataclass(frozen=True, slots=True)
class Reading:
    """A response taken apart by regular expressions."""

    answer: str
    reference: str
    modality: float
    format: float
    accuracy: float | None
    """Where a rule settles it; None where the judge has to be asked."""


def read(response: str, solution: str) -> Reading:
    """Apply the published rules."""
    text = re.sub(r"\s*(<|>|/)\s*", r"\1", response)
    found = re.search(r"<answer>(.*?)</answer>", text, re.DOTALL)
    answer = (found.group(1) if found else text).strip().strip(".")
    tag, _, rest = solution.partition(">")
    reference = rest.strip().strip(".")
    heading = text[: max(text.find("<thinking>"), 0)]
    return Reading(
        answer=answer,
        reference=reference,
        modality=float(heading.upper() == f"{tag}>".upper()),
        format=_format(text),
        accuracy=_settled(answer, reference),
    )


def _format(text: str) -> float:
    start = text.find("<thinking>")
    shape = r"<thinking>.*</thinking>\s*<answer>.*</answer>"
    return float(start >= 0 and bool(re.fullmatch(shape, text[start:].strip(), re.DOTALL)))


def _settled(answer: str, reference: str) -> float | None:
    if len(answer) <= 1 or any(sign in answer for sign in ("__", ":", "?")):
        return 0.0
    return 1.0 if answer == reference else None


def total(reading: Reading, judged: float, weights: Weights, embedded: float = 0.0) -> float:
    """Add the signals up; the embedder's constant is 0 where it would be asked."""
    accuracy = reading.accuracy
    llm, embed = (judged, embedded) if accuracy is None else (accuracy, accuracy)
    return (
        weights.judge * llm
        + weights.embed * embed
        + weights.modality * reading.modality
        + weights.format * reading.format
    )


def expected(response: str, solution: str, weights: Weights) -> float:
    """The reward where the stand-in is asked: its verdict is known, and no two texts are near."""
    reading = read(response, solution)
    return total(reading, float(says_yes(reading.answer, reading.reference)), weights)


def question(reading: Reading) -> dict[str, Any]:
    """The body of the judge's call."""
    prompt = PROMPT.format(answer=reading.answer, reference=reading.reference)
    messages = [{"role": "user", "content": prompt}]
    return {"model": MODEL, "messages": messages, "temperature": 0, "max_tokens": 4}


def verdict(reply: Any) -> float:
    """Look for a YES in what the judge said."""
    return float("YES" in reply["choices"][0]["message"]["content"].upper())


Embed = Callable[[str, str], float]
"""Says 1 for two texts that are near, else 0."""


def never_near(_answer: str, _reference: str) -> float:
    """Stand in for an embedder."""
    return 0.0


def rewards(
    url: str, pairs: Iterable[tuple[str, str]], weights: Weights, embed: Embed = never_near
) -> list[float]:
    """Score responses against solutions one after the other."""
    return [_reward(url, response, solution, weights, embed) for response, solution in pairs]


def _reward(url: str, response: str, solution: str, weights: Weights, embed: Embed) -> float:
    reading = read(response, solution)
    if reading.accuracy is not None:
        return total(reading, reading.accuracy, weights)
    reply = requests.post(f"{url}/chat/completions", json=question(reading), timeout=TIMEOUT_S)
    reply.raise_for_status()
    embedded = embed(reading.answer, reading.reference)
    return total(reading, verdict(reply.json()), weights, embedded)
