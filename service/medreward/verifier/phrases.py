"""Phrases around terms: carriers, denials, questions and lists, those of training and the others."""

import random
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

Part = Literal["training", "held_out"]


@dataclass(frozen=True, slots=True)
class Phrases:
    """One half of phrases.toml; `{}` stands for the term."""

    carriers: Sequence[str]
    """Longer phrases with the term's meaning, without `statements`."""
    statements: Sequence[str]
    """Those that say that a finding is there."""
    drug_carriers: Sequence[str]
    quantity_carriers: Sequence[str]
    doses: Sequence[str]
    """A drug and a quantity of it."""
    durations: Sequence[str]
    levels: Sequence[str]
    """What is measured and its value."""
    denials: Sequence[str]
    questions: Sequence[str]
    """Questions that any finding answers."""
    drug_questions: Sequence[str]
    quantity_questions: Sequence[str]
    described: Sequence[str]
    """Questions around a definition."""
    absence_questions: Sequence[str]
    polar_questions: Sequence[str]
    """Questions to be answered by yes or no."""
    hedges: Sequence[str]
    """Phrases that give two answers at once."""
    empty: Sequence[str]
    """Answers that fit any question."""
    nonsense: Sequence[str]
    """Things that no term means."""


@cache
def load_phrases(part: Part) -> Phrases:
    """Return the phrases of training, or those held out from it."""
    file = files("medreward.verifier").joinpath("phrases.toml").read_text("utf-8")
    return Phrases(**{name: tuple(both[part]) for name, both in tomllib.loads(file).items()})


def put(phrase: str, *texts: str) -> str:
    """Put texts into a phrase, in lower case inside it and with a capital at its beginning."""
    filled = phrase.format(*map(lowered, texts))
    # A phrase that is a sentence begins with a capital; "{} is seen" may stand in a note.
    return filled[0].upper() + filled[1:] if phrase[:1] == "{" and phrase[-1] == "." else filled


def lowered(text: str) -> str:
    """Lower the first letter, unless the text begins with an abbreviation."""
    return text[0].lower() + text[1:] if text[1:2].islower() else text


def choose(phrases: Sequence[str], rng: random.Random, *texts: str) -> str:
    """Put texts into one of the phrases."""
    return put(rng.choice(phrases), *texts)
