"""Options of a question: `A. text`, `(A) text`, `{'A': 'text'}`, in the order of their letters."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from medreward.guards.decoration import plain
from medreward.guards.normal import WORD, Normal

MIN_OPTIONS = 2

_OPTION = re.compile(
    r"(?<![^\W_])\(?([a-j])[.):、](?=\s)\s*|\(([a-j])\)\s*|(?:^|\n)\s{0,8}([a-j])[.):、](?=\S)"
)
_ENTRY = re.compile(r"""['"]([a-j])['"]\s{0,3}:\s{0,3}(['"])(.{0,400}?)\2(?=\s{0,3}[,}])""")
_SENTENCE = re.compile(r"[.!?\n]\s")


class Options(NamedTuple):
    """Options of a question by their letter; empty if it has none."""

    texts: Mapping[str, str]
    """Plain text of each."""
    content: Mapping[str, frozenset[str]]
    """Stems of the content words of each; those without any are left out."""
    stem: Normal
    """Text of the question before the first option."""
    asked: tuple[str, ...] = ()
    """Words of the last sentence of the stem; what is told before it may be about other things."""


NO_OPTIONS = Options({}, {}, Normal(""))


def read_options(question: Normal | None) -> Options:
    """Read the options of a question."""
    return NO_OPTIONS if question is None else question.derived(_read)


def _read(question: Normal) -> Options:
    folded = question.folded
    entries = list(_ENTRY.finditer(folded))
    if len({entry[1] for entry in entries}) >= MIN_OPTIONS:
        texts = {entry[1]: plain(entry[3]) for entry in entries}
        return _options(texts, folded[: entries[0].start()])
    marks: list[re.Match[str]] = []
    for mark in _OPTION.finditer(folded):
        if ord(mark[mark.lastindex or 1]) - ord("a") == len(marks):
            marks.append(mark)
    if len(marks) < MIN_OPTIONS:
        return NO_OPTIONS
    ends = [mark.start() for mark in marks[1:]] + [len(folded)]
    told = [folded[mark.end() : end] for mark, end in zip(marks, ends, strict=True)]
    told[-1] = told[-1].split("\n")[0]
    texts = {
        mark[mark.lastindex or 1]: plain(text.strip().rstrip(",;"))
        for mark, text in zip(marks, told, strict=True)
    }
    return _options(texts, folded[: marks[0].start()])


def _options(texts: Mapping[str, str], before: str) -> Options:
    content = {letter: Normal(text).content for letter, text in texts.items()}
    content = {letter: said for letter, said in content.items() if said}
    sentences = [part for part in _SENTENCE.split(before) if WORD.search(part)]
    asked = Normal(sentences[-1]).tokens if sentences else ()
    return Options(texts, content, Normal(before), asked)
