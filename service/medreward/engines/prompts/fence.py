"""The text of a prompt: the fixed instruction first, then the data, fenced.

Candidate, reference and question are JSON strings between two lines that hold a nonce. JSON keeps
each on one line, so none can forge a field or the closing fence. Strings that the judge's tokenizer,
a tokenizer of another family or the fence would read as special are written with JSON's own escapes,
so the JSON value stays the same.
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
"""Unicode's categories of characters that end a line, are invisible, or are half a pair."""

QUOTING_VERSION = 1
"""To be raised with every change of the written form, so that cached judgements are not reused."""


class Fence:
    """Writes the data part of a prompt so that no field can be taken for markup or another field.

    *special_tokens* are those of the judge's tokenizer, if it is loaded here; those of the usual
    families are always included. A special token made of a backslash or digits cannot be escaped.
    """

    def __init__(self, *, secret: str, special_tokens: Iterable[str] = ()) -> None:
        self._secret = secret.encode()
        self._marks = _marks(special_tokens)

    @property
    def identity(self) -> str:
        """A digest of secret and marks for cache keys, which does not reveal the secret."""
        marks = json.dumps([QUOTING_VERSION, self._marks])
        return hmac.new(self._secret, marks.encode(), hashlib.sha256).hexdigest()[:16]

    def nonce(self, template: Template) -> str:
        """Derive the nonce: the same on every replica, and secret as long as the secret is."""
        return hmac.new(self._secret, template.sha.encode(), hashlib.sha256).hexdigest()[:8]

    def render(self, inquiry: Inquiry) -> str:
        """Write the user's turn for one inquiry."""
        nonce = self.nonce(inquiry.template)
        marks = [*self._marks, nonce]
        lines = [_line(name, text, marks) for name, text in _fields(inquiry)]
        fenced = "\n".join([f"[data {nonce}]", *lines, f"[end {nonce}]"])
        return f"{inquiry.template.instruction}\n\n{fenced}"


def _marks(special_tokens: Iterable[str]) -> list[str]:
    """List the strings that data must not spell; those that contain a general one are left out."""
    known = load_special_tokens()
    general = {_folded(piece) for piece in known.general}
    tokens = {_folded(token) for token in (*known.all, *special_tokens)} - {""}
    return sorted(general | {t for t in tokens if not any(piece in t for piece in general)})


def _line(name: str, text: str, marks: Sequence[str]) -> str:
    """Write a field whose *text* takes part in no mark, once tokens are folded."""
    # One part for each character, between the field's name and quotes, which a mark may include.
    parts = [f'\n{name}: "', *map(_in_json, text), '"\n']
    # Repeated, because an escape may itself complete a mark. Each turn escapes another part, so it
    # ends.
    while numbers := _parts_to_escape(parts, marks):
        for number in numbers:
            parts[number] = _escape(text[number - 1])
    return "".join(parts).strip("\n")


def _parts_to_escape(parts: Sequence[str], marks: Sequence[str]) -> set[int]:
    """Return, for each occurrence of a mark, its first part that is neither fixed nor escaped yet."""
    folded = _folded("".join(parts))
    found = [mark for mark in marks if mark in folded]
    if not found:
        return set()
    owners = [number for number, part in enumerate(parts) for _ in _folded(part)]
    open_parts = {n for n in range(1, len(parts) - 1) if not parts[n].startswith("\\u")}
    first_open = (
        next((n for n in owners[match.start() : match.start() + len(mark)] if n in open_parts), 0)
        for mark in found
        # A lookahead also finds occurrences that overlap.
        for match in re.finditer(f"(?={re.escape(mark)})", folded)
    )
    return {number for number in first_open if number}


def _folded(text: str) -> str:
    """Fold *text* as the most lenient tokenizer does: without case, accents or widths."""
    return text.lower() if text.isascii() else "".join(map(_folded_character, text))


@lru_cache(maxsize=4096)
def _folded_character(character: str) -> str:
    bare = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
    return "".join(part for part in bare if not unicodedata.combining(part))


@lru_cache(maxsize=4096)
def _in_json(character: str) -> str:
    """Write a character inside a JSON string: as itself, if it is visible and needs no escape."""
    plain = json.dumps(character, ensure_ascii=False)[1:-1]
    hidden = plain == character and unicodedata.category(character) in ESCAPED
    return _escape(character) if hidden else plain


def _escape(character: str) -> str:
    """Write a character as JSON's escape for it."""
    return f"\\u{ord(character):04x}" if character.isascii() else json.dumps(character)[1:-1]


def _fields(inquiry: Inquiry) -> list[tuple[str, str]]:
    """List the named texts in the order of the inquiry's view.

    A criterion comes last, so that all criteria of an answer share what the engine reads before it.
    """
    fields = [
        ("question", inquiry.shown_question),
        ("reference", inquiry.reference),
        ("candidate", inquiry.answer),
    ]
    if inquiry.second is not None:
        fields[-1:] = [("first", inquiry.answer), ("second", inquiry.second)]
    if inquiry.view is View.SWAPPED:
        fields[-2:] = reversed(fields[-2:])
    fields.append(("criterion", inquiry.criterion))
    return [(name, text) for name, text in fields if text is not None]
