"""The case of an audit: one question to a judge whose right verdict is known."""

from typing import Literal, NamedTuple

Suite = Literal["attack", "benign", "pair"]


class Case(NamedTuple):
    """An answer, its reference, and whether they mean the same."""

    suite: Suite
    stratum: str
    """Attack class (`A05`), kind of twin, or stratum of pairs; a closed set."""
    answer: str
    reference: str
    equivalent: bool
    question: str | None = None
    held_out: bool = False
    """True if no lexicon was written from the case's template or family."""
