"""The ends of the prompt and of the response in a text that was decoded with special tokens.

The client and the service import nothing of each other, so this module stands in both; a test
compares the copies.
"""

import re
import unicodedata
from collections.abc import Iterator
from io import StringIO

MARK = (
    r"<\|[^<>|\s]{1,64}\|>|<\uff5c[^<>\uff5c\s]{1,64}\uff5c>"
    r"|</?s>|<(?:bos|eos|pad|unk|start_of_turn|end_of_turn|image)>"
    r"|\[/?INST\]|\[(?:CLS|SEP|PAD)\]"
)
"""Special tokens of the tokenizers in use; a recipe's own tags never match."""
_SPECIAL = re.compile(MARK)
_GAP = re.compile(rf"(?:{MARK}|\s)+")

_MARKS = re.compile(r"(?:[^\w\s\x00-\u02ff]|[\uff9e\uff9f])+")
"""Runs of characters among which the combining marks are."""
MOST_MARKS = 30
"""Marks of one character, at most; no script writes as many."""

CUT_PROMPT_CHARACTERS = 32
"""Characters needed to recognise a prompt that the trainer cut at its start."""
PLACES_TRIED = 100


def response_in(query: str, prompt: str) -> str | None:
    """Return the text after the prompt in *query*, without special tokens at its end.

    1. The query may begin with the prompt exactly.
    2. Or both are compared without special tokens and white space, which a tokenizer adds, drops
       and moves, and with the prompt normalised to NFC or NFKC, as tokenizers do.
    3. Or the query begins with the end of such a prompt, which the trainer cut to fit.
    Otherwise the result is None.
    """
    if query.startswith(prompt):
        return without_end(query[len(prompt) :])
    for form in _forms(prompt):
        words = _words(form)
        length = _shared(_words(query, len(words)), words)
        if length is not None:
            return without_end(query[_place(query, length) :])
    return None


def _forms(prompt: str) -> Iterator[str]:
    """Yield the prompt as it is, then normalised as tokenizers do."""
    yield prompt
    # Normalising takes the square of a run of marks in time, and no prompt has a long one.
    if not any(_is_pile(run[0]) for run in _MARKS.finditer(prompt)):
        yield unicodedata.normalize("NFC", prompt)
        yield unicodedata.normalize("NFKC", prompt)


def _is_pile(run: str) -> bool:
    """Return whether more marks than any script writes follow each other."""
    if len(run) <= MOST_MARKS:
        return False
    length = 0
    for sign in run:
        is_mark = all(map(unicodedata.combining, unicodedata.normalize("NFKD", sign)))
        length = length + 1 if is_mark else 0
        if length > MOST_MARKS:
            return True
    return False


def without_end(response: str) -> str:
    """Remove special tokens at the end of a response, with the white space around them."""
    end = len(response)
    for token in reversed(list(_SPECIAL.finditer(response))):
        if response[token.end() : end].strip():
            break
        end = token.start()
    return response if end == len(response) else response[:end].rstrip()


def _words(text: str, least: int | None = None) -> str:
    """Return a text without special tokens and white space, or *least* characters of it or more."""
    # Not a list of the words, which would take many times the memory of the text.
    words, at, length = StringIO(), 0, 0
    for gap in _GAP.finditer(text):
        length += words.write(text[at : gap.start()])
        at = gap.end()
        if least is not None and length >= least:
            return words.getvalue()
    words.write(text[at:])
    return words.getvalue()


def _shared(query: str, prompt: str) -> int | None:
    """Return the number of characters of *query* that are the prompt, or the end of a cut one."""
    if query.startswith(prompt):
        return len(prompt)
    beginning = query[:CUT_PROMPT_CHARACTERS]
    if len(beginning) < CUT_PROMPT_CHARACTERS:
        return None
    at = -1
    for _ in range(PLACES_TRIED):
        at = prompt.find(beginning, at + 1)
        if at < 0:
            return None
        if query.startswith(prompt[at:]):
            return len(prompt) - at
    return None


def _place(text: str, length: int) -> int:
    """Return the place in a text after the first *length* characters of its words.

    Behind the end of a word, it is that of the next word.
    """
    at = 0
    for gap in _GAP.finditer(text):
        if length < gap.start() - at:
            break
        length -= gap.start() - at
        at = gap.end()
    return at + length
