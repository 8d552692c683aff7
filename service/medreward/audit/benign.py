"""Suite T2: right answers in unusual forms, which no guard may veto."""

import unicodedata
from collections.abc import Callable
from functools import lru_cache

from medreward.audit.cases import Case, read_table

FORMS: tuple[Callable[[str], str], ...] = (
    lambda answer: answer,
    lambda answer: f" {answer}\n",
    lambda answer: answer + "." * (answer[-1].isalnum()),
    lambda answer: unicodedata.normalize("NFD", answer),
    lambda answer: f"\ufeff{answer}",
    lambda answer: f"Answer: {answer}",
    lambda answer: answer.replace(" ", "\u00a0"),
    lambda answer: answer[:1].upper() + answer[1:],
)
"""Ways to write one answer."""


def twins() -> list[Case]:
    """Return every twin in every form, without duplicates."""
    cases = (
        Case("benign", kind, form(answer), reference, equivalent=True, question=question)
        for kind, reference, answer, question in _rows()
        for form in FORMS
    )
    return list(dict.fromkeys(cases))


def equal_twins() -> list[Case]:
    """Return every reference as its own answer."""
    cases = (
        Case("benign", kind, reference, reference, equivalent=True, question=question)
        for kind, reference, _, question in _rows()
    )
    return list(dict.fromkeys(cases))


@lru_cache(maxsize=1)
def _rows() -> tuple[tuple[str, str, str, str | None], ...]:
    """Return rows of kind, reference, answer and question."""
    return tuple(
        (kind, reference, answer, question[0] if question else None)
        for kind, rows in read_table("twins.toml").items()
        for reference, answer, *question in rows
    )
