"""From an inquiry to the text a judge reads: fixed text first, candidate last, data fenced.

Candidate, reference and question are JSON strings between two lines that hold a nonce. JSON keeps
each on one line, so none can forge a field or the closing fence; what the judge's tokenizer, that
of another family or the fence would read as special is written with JSON's own escapes, so the text
stays the same text.
"""

import hashlib
import hmac
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

from medreward.engines.judge import Inquiry, View
from medreward.engines.prompts.special_tokens import load_special_tokens
from medreward.engines.templates import Template

ESCAPED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's categories of what ends a line, or is not seen, or is no character at all."""


QUOTING_VERSION = 1
"""Raised when the same text would be written differently, so that judgements are asked anew."""


class Fence:
    """Writes the data part of a prompt so that nothing in it can pass for anything else.

    *special_tokens* are those of the judge's tokenizer, where it is at hand; those of the usual
    families are known. A special token that JSON's escapes are made of, a backslash or digits, is beyond it.
    """

    def __init__(self, *, secret: str, special_tokens: Iterable[str] = ()) -> None:
        self._secret = secret.encode()
        self._marks = _marks(special_tokens)

    @property
    def identity(self) -> str:
        """A digest of what the fence depends on, for cache keys; the secret cannot be read off it."""
        marks = json.dumps([QUOTING_VERSION, self._marks])
        return hmac.new(self._secret, marks.encode(), hashlib.sha256).hexdigest()[:16]

    def nonce(self, template: Template) -> str:
        """Derive the nonce: the same on every replica, not to be known without the secret."""
        return hmac.new(self._secret, template.sha.encode(), hashlib.sha256).hexdigest()[:8]

    def render(self, inquiry: Inquiry) -> str:
        """Write the user's turn for one inquiry."""
        nonce = self.nonce(inquiry.template)
        marks = [*self._marks, nonce]
        lines = [_line(name, text, marks) for name, text in _fields(inquiry)]
        fenced = "\n".join([f"[data {nonce}]", *lines, f"[end {nonce}]"])
        return f"{inquiry.template.instruction}\n\n{fenced}"


def _marks(special_tokens: Iterable[str]) -> list[str]:
    """List what may not be spelt in data, without what cannot be where another of them is not."""
    known = load_special_tokens()
    general = {_folded(piece) for piece in known.general}
    tokens = {_folded(token) for token in (*known.all, *special_tokens)} - {""}
    return sorted(general | {t for t in tokens if not any(piece in t for piece in general)})


def _line(name: str, text: str, marks: Sequence[str]) -> str:
    """Write a field such that no character of *text* is seen to take part in a mark."""
    # One part a character, between what stands around it: a mark may reach across the quotes.
    parts = [f'\n{name}: "', *map(_in_json, text), '"\n']
    # Again, because a mark may be spelt in part by an escape; each turn escapes something more.
    while numbers := _parts_to_escape(parts, marks):
        for number in numbers:
            parts[number] = _escape(text[number - 1])
    return "".join(parts).strip("\n")


def _parts_to_escape(parts: Sequence[str], marks: Sequence[str]) -> set[int]:
    """Find, in each mark that occurs, the first part that is not fixed and not escaped yet."""
    folded = _folded("".join(parts))
    found = [mark for mark in marks if mark in folded]
    if not found:
        return set()
    owners = [number for number, part in enumerate(parts) for _ in _folded(part)]
    open_parts = {n for n in range(1, len(parts) - 1) if not parts[n].startswith("\\u")}
    first_open = (
        next((n for n in owners[match.start() : match.start() + len(mark)] if n in open_parts), 0)
        for mark in found
        # Looking ahead finds also the occurrences that overlap one another.
        for match in re.finditer(f"(?={re.escape(mark)})", folded)
    )
    return {number for number in first_open if number}


def _folded(text: str) -> str:
    """Fold *text* like the most forgiving tokenizer: without case, accents or widths."""
    return text.lower() if text.isascii() else "".join(map(_folded_character, text))


@lru_cache(maxsize=4096)
def _folded_character(character: str) -> str:
    bare = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
    return "".join(part for part in bare if not unicodedata.combining(part))


@lru_cache(maxsize=4096)
def _in_json(character: str) -> str:
    """Write a character inside a JSON string: as itself, if it is seen and ends nothing."""
    plain = json.dumps(character, ensure_ascii=False)[1:-1]
    hidden = plain == character and unicodedata.category(character) in ESCAPED
    return _escape(character) if hidden else plain


def _escape(character: str) -> str:
    """Write a character as JSON's escape for it."""
    return f"\\u{ord(character):04x}" if character.isascii() else json.dumps(character)[1:-1]


def _fields(inquiry: Inquiry) -> list[tuple[str, str]]:
    """Give the named texts in the order of the inquiry's view."""
    blind = inquiry.view is View.WITHOUT_QUESTION or not inquiry.template.shows_question
    question = None if blind else inquiry.question
    fields = [
        ("question", question),
        ("criterion", inquiry.criterion),
        ("reference", inquiry.reference),
        ("candidate", inquiry.answer),
    ]
    if inquiry.view is View.SWAPPED:
        fields[-2:] = reversed(fields[-2:])
    return [(name, text) for name, text in fields if text is not None]
