"""From an inquiry to the text a judge reads: fixed text first, candidate last, data fenced.

Candidate, reference and question are JSON strings between two lines that hold a nonce. JSON keeps
each on one line, so none can forge a field or the closing fence; what a tokenizer or the fence
would read as special is written with JSON's own escapes, so the text stays the same text.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Iterable

from medreward.judging.judge import Inquiry, View
from medreward.judging.templates import Template


class Fence:
    """Writes the data part of a prompt so that nothing in it can pass for anything else."""

    def __init__(self, *, secret: str, special_tokens: Iterable[str] = ()) -> None:
        self._secret = secret.encode()
        # Longest first: "<|im_end|>" must not be spared because "<" was matched before it.
        specials = sorted({token for token in special_tokens if token}, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, specials))) if specials else None

    @property
    def identity(self) -> str:
        """A digest of what the fence depends on, for cache keys; the secret cannot be read off it."""
        pattern = self._special.pattern if self._special else ""
        return hmac.new(self._secret, pattern.encode(), hashlib.sha256).hexdigest()[:16]

    def nonce(self, template: Template) -> str:
        """Derive the nonce: the same on every replica, not to be known without the secret."""
        return hmac.new(self._secret, template.sha.encode(), hashlib.sha256).hexdigest()[:8]

    def render(self, inquiry: Inquiry) -> str:
        """Write the user's turn for one inquiry."""
        nonce = self.nonce(inquiry.template)
        lines = [f"{name}: {self._quote(text, nonce)}" for name, text in _fields(inquiry)]
        fenced = "\n".join([f"[data {nonce}]", *lines, f"[end {nonce}]"])
        return f"{inquiry.template.instruction}\n\n{fenced}"

    def _quote(self, text: str, nonce: str) -> str:
        quoted = json.dumps(text, ensure_ascii=False)
        if self._special is not None:
            quoted = self._special.sub(_escape_first, quoted)
        return quoted.replace(nonce, f"\\u{ord(nonce[0]):04x}{nonce[1:]}")


def _escape_first(match: re.Match[str]) -> str:
    """Write the first character of a special token as JSON's escape for it."""
    token = match.group()
    return f"\\u{ord(token[0]):04x}{token[1:]}"


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
