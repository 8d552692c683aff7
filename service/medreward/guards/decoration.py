r"""Decoration of an answer: markup, labels, carrier phrases and punctuation around what it says.

`**Final answer:** The image shows \text{pneumonia}. ✅` says `pneumonia`. What is taken off holds
no content: every word of it is in `lexicons/carriers.toml`, and none denies, hedges or names a
second answer. A text of which nothing would be left stays as it is.
"""

# ruff: noqa: RUF001 this module names signs that look like others

import html
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple

from medreward.guards.lexicon import lexicon, words_of
from medreward.guards.normal import WORD, Normal, normal
from medreward.guards.pair import Span
from medreward.guards.polarity import respelled

MAX_LAYERS = 8
"""Layers of decoration that are taken off, at most."""

MAX_TAIL = 120
"""Characters of a phrase behind the term, at most."""

_MARKED = re.compile(r"[*_`<&\\$\n]")
_MARKS = re.compile(
    r"""\*\*|(?<!_)__(?!_)|`
    |(?P<tag></?(?:b|i|u|em|strong|span|small|h[1-4])\s?/?>)
    |(?P<gap></?(?:p|br|div|ul|ol|li)\s?/?>|\\[,;\ ])
    |(?P<entity>&(?:[a-zA-Z]{2,8}\d{0,2}|\#\d{2,4});)
    |(?P<escape>\\[%&\#])
    |(?P<opening>\\(?:boxed|fbox|text|textbf|textit|textrm|mathrm|mathbf|mathit|emph|underline)\s?\{)
    |(?P<brace>[{}])""",
    re.VERBOSE,
)
_MATH = re.compile(r"(?<![\\$])\$[^$\s](?:[^$\n]{0,200}[^$\s\\])?\$(?![\d$])")
_OPENS_TAG = re.compile(r"[^\W\d]|[/!?|]")

_PAIRS = {
    "*": (("*", "*"),),
    "_": (("_", "_"),),
    "$": (("$$", "$$"), ("$", "$")),
    "\\": (("\\(", "\\)"), ("\\[", "\\]")),
    **{
        pair[0]: ((pair[0], pair[1]),)
        for pair in ('""', "''", "“”", "‘’", "«»", "„“", "「」", "『』", "()", "[]", "【】", "（）")
    },
}
"""Signs that may stand around a whole answer, by their first character."""
_LISTS = frozenset("-*•‣–—#(1")
_LISTED = re.compile(r"(?:[-*•‣–—]|#{2,6})\s{1,4}(?=[^\s\d(\[])|\(?1[.)]\s{1,4}(?=[^\s\d])")
_SECOND = re.compile(r"(?:^|\s)\(?2[.)]\s", re.MULTILINE)
_FRONT = " \t\r\n,;:，；：、"
_BACK = " \t\r\n.,;:!…。，；：、！"
_FIRST_WORD = re.compile(r"[^\W_]+(?:[-'’][^\W_]+)*")
_GAP = r"\s{1,4}"
_PART = re.compile(r"<(\w+)>(\??)|([^\s<>?]+)(\??)")

_ARTICLE = re.compile(
    r"(?:the|an?(?!\s+(?:few|little|half|third|quarter|fourth|fifth|sixth|tenth)\b))\s+(?=\S)"
)
_HYPHEN = re.compile(r"(?<=[^\W\d_])-(?=[^\W\d_])")
_PLAIN_EDGES = " \t\n\"'`*.!"
_QUOTES = frozenset("\"'`*")


class Core(NamedTuple):
    """What an answer says without its decoration."""

    text: str
    start: int
    """Place of its first character in the text without markup."""
    places: tuple[int, ...] | None
    """Place of each character of the text without markup in the original; None if all stayed."""

    def span(self, span: Span) -> Span:
        """Return the range of the original text that a range of the core stands for."""
        start, end = span.start + self.start, span.end + self.start
        if self.places is None or start >= end:
            return Span(start, end)
        return Span(self.places[start], self.places[end - 1] + 1)


def core(text: Normal) -> Core:
    """Return the text without its decoration, with its place."""
    return text.derived(_core)


def undecorated(text: Normal) -> Normal:
    """Return the text without its decoration."""
    said = text.derived(_core).text
    return text if said == text.text else normal(said)


def _core(text: Normal) -> Core:
    bare, places = text.text, None
    end = len(bare.rstrip(_BACK))
    if end and _is_plain(bare[:end]):
        return Core(bare[:end], 0, None)
    if _MARKED.search(bare):
        bare, places = _without_marks(bare)
    start, said = 0, bare
    is_denied = not text.vocabulary.isdisjoint(words_of("carriers", "against"))
    for _ in range(MAX_LAYERS):
        found = next(_layers(said, is_denied=is_denied), None)
        if found is None:
            break
        start, said = start + found[0], said[found[0] : found[1]]
    return Core(said, start, places) if start or said != text.text else Core(text.text, 0, None)


def _is_plain(text: str) -> bool:
    """Return whether a text without its final stop has plainly no decoration, as most have none."""
    word, known = _FIRST_WORD.match(text), _phrases()
    return (
        word is not None
        and text.isascii()
        and text[-1].isalnum()
        and text[0] != "1"
        and not _MARKED.search(text)
        and word[0].lower() not in known.first
        and text[text.rfind(" ") + 1 :].lower() not in known.last
    )


def _without_marks(text: str) -> tuple[str, tuple[int, ...] | None]:
    """Remove markup inside a text; also return the original place of each character that is left."""
    cuts = [
        (at, at + 1, "") for math in _MATH.finditer(text) for at in (math.start(), math.end() - 1)
    ]
    opened: list[tuple[int, int] | None] = []
    for mark in _MARKS.finditer(text):
        if mark["opening"] or mark[0] == "{":
            opened.append(mark.span() if mark["opening"] else None)
        elif mark[0] == "}":
            opening = opened.pop() if opened else None
            cuts += [] if opening is None else [(*opening, ""), (*mark.span(), "")]
        elif (written := _written(mark, text)) is not None:
            cuts.append((*mark.span(), written))
    pieces, places, at = [], [], 0
    for start, end, written in sorted(cuts):
        pieces += [text[at:start], written]
        places += [*range(at, start), *[start] * len(written)]
        at = end
    left = "".join([*pieces, text[at:]])
    if not cuts or not WORD.search(left):
        return text, None
    return left, (*places, *range(at, len(text)))


def _written(mark: re.Match[str], text: str) -> str | None:
    """Return what a mark stands for; None if it stays."""
    if mark["gap"]:
        return "\n" if mark[0][0] == "<" else " "
    if mark["escape"]:
        return mark[0][1]
    if not mark["entity"]:
        return ""
    sign = html.unescape(mark[0])
    if len(sign) != 1 or not (sign.isprintable() or sign.isspace()):
        return None
    is_tag = sign == "<" and _OPENS_TAG.match(text, mark.end())
    return None if is_tag else " " if sign.isspace() else sign


def _layers(text: str, *, is_denied: bool) -> Iterator[tuple[int, int]]:
    """Yield the ranges that are left without one layer of decoration, if they say something."""
    for start, end in _candidates(text, is_denied=is_denied):
        if (start or end < len(text)) and _says(text[start:end]):
            yield start, end


def _says(text: str) -> bool:
    """Return whether a text may be an answer: it has a word that is not empty, or is a letter."""
    empty = words_of("carriers", "empty")
    return any(
        word.lower() not in empty or (len(word) == 1 and word.isupper())
        for word in map(itemgetter(0), WORD.finditer(text))
    )


def _candidates(text: str, *, is_denied: bool) -> Iterator[tuple[int, int]]:
    signs, size = _phrases().signs, len(text)
    yield size - len(text.lstrip(_FRONT + signs)), len(text.rstrip(_BACK + signs))
    for opening, closing in _PAIRS.get(text[:1], ()):
        if text.startswith(opening) and text.endswith(closing):
            inner = text[len(opening) : -len(closing)]
            if opening not in inner and closing not in inner:
                yield len(opening), size - len(closing)
    if "\n" in text:
        yield _once(text)
    if text[:1] in _LISTS and (mark := _LISTED.match(text)) and not _SECOND.search(text):
        yield mark.end(), size
    yield from ((start, size) for start in _starts(text))
    yield from ((0, end) for end in _ends(text, is_denied=is_denied))


def _starts(text: str) -> Iterator[int]:
    """Yield the places behind phrases with which a text begins."""
    known, word = _phrases(), _FIRST_WORD.match(text)
    if word is not None and word[0].lower() in known.first:
        found = _before(word[0].lower()).match(text)
        if found is not None:
            yield found.end()
    if not text.isascii():
        yield from (found.end() for pattern in known.touching if (found := pattern.match(text)))


def _ends(text: str, *, is_denied: bool) -> Iterator[int]:
    """Yield the places before phrases with which a text ends."""
    known, tail = _phrases(), max(0, len(text) - MAX_TAIL)
    if not text.isascii() and (found := known.touched.search(text, tail)):
        yield found.start()
    word = text[text.rfind(" ") + 1 :].lower()
    if not is_denied and word in known.last and (found := _behind(word).search(text, tail)):
        yield found.start()


def _once(text: str) -> tuple[int, int]:
    """Return the range of the first line of a text that says the same on each line."""
    lines = text.splitlines()
    said = {" ".join(line.split()).strip(_BACK).lower() for line in lines} - {""}
    if len(said) != 1:
        return 0, len(text)
    start = next(i for i, line in enumerate(lines) if line.strip(_BACK))
    before = sum(len(line) + 1 for line in lines[:start])
    return before, before + len(lines[start])


class _Phrases(NamedTuple):
    """Phrases of the lexicon, by the words with which a text has to begin or end for them."""

    first: Mapping[str, Sequence[str]]
    """Patterns of the phrases before a term, by their first word."""
    last: Mapping[str, Sequence[str]]
    """Patterns of the phrases behind a term, by their last word."""
    touching: tuple[re.Pattern[str], ...]
    touched: re.Pattern[str]
    signs: str


@lru_cache(maxsize=1)
def _phrases() -> _Phrases:
    table = lexicon("carriers")
    parts, said, others = table["parts"], table["phrases"], table["others"]
    colon = r"(?:\s{0,2}[:：]\s{0,4}|\s{1,3}[-–—=]{1,2}>?\s{1,3})(?=\S)"
    gap = rf"(?:\s{{0,2}}[:,]\s{{0,4}}|{_GAP})"
    then = r"(?=(?:the|it|this|that|these|there|they|my|we|i|a|an|he|she)\b)"
    first, last = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    for lines, follows in (
        (said["openings"], rf"(?:\s{{0,2}},\s{{0,4}}|{_GAP}{then})(?=\S)"),
        (said["before"], rf"{gap}{_articles(said)}(?=\S)"),
        (said["labels"], colon),
        (others["before"], rf"{gap}{_articles(others)}(?=\S)"),
        (others["labels"], colon),
    ):
        for phrase in (Phrase(line, {**parts, **others}) for line in lines):
            pattern = phrase.pattern + follows
            for word in set(phrase.ends(1)):
                first[word].append(pattern)
    for phrase in (Phrase(line, parts) for line in said["behind"]):
        pattern = rf"{_GAP}{phrase.pattern}\Z"
        for word in set(phrase.ends(-1)):
            last[word].append(pattern)
    touching = table["touching"]
    return _Phrases(
        first=first,
        last=last,
        touching=tuple(re.compile(line) for line in touching["before"]),
        touched=re.compile(rf"(?:{'|'.join(touching['behind'])})\Z"),
        signs="".join({sign for line in table["signs"]["ends"] for sign in line if sign != " "}),
    )


# One pattern for each word of the lexicon, compiled when a text first begins or ends with it.
@lru_cache(maxsize=2048)
def _before(word: str) -> re.Pattern[str]:
    return re.compile("|".join(_phrases().first[word]), re.IGNORECASE)


@lru_cache(maxsize=2048)
def _behind(word: str) -> re.Pattern[str]:
    return re.compile("|".join(_phrases().last[word]), re.IGNORECASE)


def _articles(table: Mapping[str, Sequence[str]]) -> str:
    return rf"(?:(?-i:{'|'.join(table['articles'])}){_GAP})?"


class Phrase:
    """A line of the lexicon: words and names of parts, some of which may be left out."""

    def __init__(self, line: str, parts: Mapping[str, Sequence[str]]) -> None:
        self._tokens = [
            (parts[part] if part else [word], bool(may_lack or lacks))
            for part, may_lack, word, lacks in _PART.findall(line)
        ]

    @property
    def pattern(self) -> str:
        """Regular expression of the phrase."""
        pieces: list[str] = []
        for words, may_lack in self._tokens:
            choice = f"(?:{'|'.join([_spaced(word) for word in words])})"
            is_first = all(piece.endswith("?") for piece in pieces)
            piece = f"{choice}{_GAP}" if is_first and may_lack else choice
            piece = piece if is_first else f"{_GAP}{choice}"
            pieces.append(f"(?:{piece})?" if may_lack else piece)
        return "".join(pieces)

    def ends(self, step: int) -> Iterator[str]:
        """Yield the first words of the phrase, or with a *step* of -1 the last ones."""
        for words, may_lack in self._tokens[::step]:
            yield from (_FIRST_WORD.findall(word)[0 if step > 0 else -1].lower() for word in words)
            if not may_lack:
                return


def _spaced(words: str) -> str:
    return _GAP.join(map(re.escape, words.split()))


def plain_of(text: Normal) -> str:
    """Return the plain form of a text; a capital `A` may be a blood group, so it stays."""
    is_letter = text.text.strip(_PLAIN_EDGES).startswith("A ")
    return f"a {plain(text.folded)}" if is_letter else plain(text.folded)


def plain(folded: str) -> str:
    """Remove what does not change the meaning of a folded text: article, hyphens, final stop.

    Everything else stays: `< 5` is not `5`.
    """
    text = " ".join(folded.split()).rstrip(" .!")
    # A lone sign at the end has a meaning: `5'`, `HLA-B*`.
    text = text.strip(_PLAIN_EDGES) if text[:1] in _QUOTES else text.lstrip(" .")
    # Before the hyphens go: the letter of `A-delta` is no article.
    if found := _ARTICLE.match(text):
        text = text[found.end() :]
    if "-" in text:
        text = _HYPHEN.sub(" ", text)
    if "'s " in text:
        # Barrett's esophagus is Barrett esophagus.
        text = text.replace("'s ", " ")
    return respelled(text)
