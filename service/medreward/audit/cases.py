"""The case of an audit: one question to a judge whose right verdict is known."""

import tomllib
from functools import cache
from importlib import resources
from typing import Any, Literal, NamedTuple

Suite = Literal["attack", "benign", "pair", "answer"]


class Case(NamedTuple):
    """An answer, its reference, and whether they mean the same."""

    suite: Suite
    stratum: str
    """Attack class (`A05`), kind of twin, or stratum of pairs or answers; a closed set."""
    answer: str
    reference: str
    equivalent: bool
    question: str | None = None
    held_out: bool = False
    """True if no lexicon or rule was written from the case's template or family."""


@cache
def read_table(name: str) -> dict[str, Any]:
    """Read a file of this package, without its version; do not change the result."""
    table = tomllib.loads(resources.files("medreward.audit").joinpath(name).read_text("utf-8"))
    del table["version"]
    return table
