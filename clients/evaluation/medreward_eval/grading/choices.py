"""Rules for multiple choice, which need no judge if the answer names an option in plain words.

An answer is plain if it is a letter, an option's text, or both, alone or as all the text behind
`the answer is`. Any other answer goes to the judge.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from string import ascii_uppercase
from typing import Literal

_EDGES = " \t\r\n\"'`*_"
_ENDS = _EDGES + ".!,;:。"
"""Characters stripped at the end; at the beginning only `_EDGES` are, since `.5` is not `5`."""
_ARTICLE = re.compile(r"^(?:a|an|the)\s+(?=\S)")
_WRAPPED = re.compile(r"\\(?:boxed|text|textbf|mathrm)\s*\{([^{}]*)\}")
_LETTER = re.compile(
    r"(?:(?:option|choice|answer)\s+)?\(?([a-z])(?:\s*[.):]+\s*|\s+[-–—]\s+|\s*$)(.*)"  # noqa: RUF001 - as written
)
_STATED = re.compile(
    r"\b(?:answer|option|choice)\s*(?:is\s*:?|[:=])\s*(?:therefore\s+)?([^\n]+)", re.IGNORECASE
)
_QUALIFIED = re.compile(
    r"(?:^|[.!?;:\n(])\W*(?:(?:so|therefore|thus|hence|in\s+conclusion)\b\W*)?"
    r"(?:the\s+|my\s+)?(?:(?:most\s+likely|single|correct|best|right|final)\s+)*$",
    re.IGNORECASE,
)
_PILE = re.compile(r"([^\w\s\x00-\u02ff]{30})[^\w\s\x00-\u02ff]+")
"""Matches long runs of characters among which the combining marks are."""
_FENCES = re.compile(r"[*_`]{1,3}|\$")

MAX_CHARACTERS = 20_000
"""Answers of more characters go to the judge."""
MAX_OPTIONS = len(ascii_uppercase)


def settle_choice(answer: str, reference: str, options: Sequence[str]) -> bool | None:
    """Return whether an answer names the right option; None if answer or reference is not plain.

    *reference* may be the right option's letter, its text, or both, or begin with a line of these.
    """
    if not 1 < len(options) <= MAX_OPTIONS or len(answer) > MAX_CHARACTERS:
        return None
    named = [plain(option) for option in options]
    right, said = right_option(reference, options), _chosen(answer, named)
    return None if right is None or said is None else said == right


def right_option(reference: str, options: Sequence[str]) -> int | None:
    """Return the index of the option that a reference names; None if it names none plainly."""
    named = [plain(option) for option in options]
    whole = _option(reference, named)
    return _option(reference.strip().partition("\n")[0], named) if whole is None else whole


def lettered(reference: str, options: Sequence[str]) -> str:
    """Return the right option as `B. text`, so that answers of a letter or a text compare with it."""
    right = right_option(reference, options) if options else None
    if right is None:
        return reference
    _, _, explanation = reference.strip().partition("\n")
    named = f"{ascii_uppercase[right]}. {options[right].strip()}"
    return f"{named}\n{explanation.strip()}" if explanation.strip() else named


def plain(text: str) -> str:
    """Normalize case, article, edges and white space, none of which changes the meaning."""
    return _ARTICLE.sub("", _folded(text).lstrip(_EDGES).rstrip(_ENDS))


def _folded(text: str) -> str:
    # NFKC would turn 10⁹ into 109.
    return " ".join(normalised("NFC", text).casefold().split())


def normalised(form: Literal["NFC", "NFKC"], text: str) -> str:
    """Normalise a text; of more than thirty marks on a character, which no script writes, thirty are read."""
    # Putting a run of marks into order takes the square of its length.
    return unicodedata.normalize(form, _PILE.sub(r"\1", text))


def _chosen(answer: str, named: Sequence[str]) -> int | None:
    """Return the option that the whole answer, or each of its plain statements, names."""
    unwrapped = _WRAPPED.sub(r"\1", _WRAPPED.sub(r"\1", answer))
    text = _FENCES.sub("", unwrapped).strip()
    whole = _option(text, named)
    if whole is not None:
        return whole
    stated = {_option(said, named) for said in _statements(text)}
    return stated.pop() if len(stated) == 1 and _ends_in_statement(text) else None


def _ends_in_statement(text: str) -> bool:
    """Return True if no text follows the last `the answer is`; such text may take it back."""
    *_, last = _STATED.finditer(text)
    return last.end() == len(text)


def _statements(text: str) -> Iterator[str]:
    """Yield the text behind each `the answer is`, to the end of its line.

    A phrase within a longer sentence (`if he were older, the answer is B`) is skipped.
    """
    for found in _STATED.finditer(text):
        line = text.rfind("\n", 0, found.start()) + 1
        yield found[1] if _QUALIFIED.search(text[line : found.start()]) else ""


def _option(said: str, named: Sequence[str]) -> int | None:
    """Match a letter, an option's text, or a letter with its own text to an option's index."""
    by_text, by_letter = _by_text(plain(said), named), _by_letter(said, named)
    if None not in (by_text, by_letter) and by_text != by_letter:
        return None  # if the options are letters themselves, such as blood groups
    return by_letter if by_text is None else by_text


def _by_text(said: str, named: Sequence[str]) -> int | None:
    return named.index(said) if said and named.count(said) == 1 else None


def _by_letter(said: str, named: Sequence[str]) -> int | None:
    found = _LETTER.fullmatch(_folded(said).strip("\"'`*_ ").rstrip(".!,;"))
    if found is None:
        return None
    place, text = ord(found[1]) - ord("a"), plain(found[2])
    if place >= len(named) or text not in ("", named[place]):
        return None
    return place
