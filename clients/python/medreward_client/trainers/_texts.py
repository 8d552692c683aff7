"""The ends of the prompt and of the response in a text that was decoded with special tokens.

The client and the service import nothing of each other, so this module stands in both; a test
compares the copies.
"""

import re
import unicodedata

MARK = (
    r"<\|[^<>|\s]{1,64}\|>|<\uff5c[^<>\uff5c\s]{1,64}\uff5c>"
    r"|</?s>|<(?:bos|eos|pad|unk|start_of_turn|end_of_turn|image)>"
    r"|\[/?INST\]|\[(?:CLS|SEP|PAD)\]"
)
"""Special tokens of the tokenizers in use; a recipe's own tags never match."""
_SPECIAL = re.compile(MARK)
_GAP = re.compile(rf"(?:{MARK}|\s)+")

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
    words = _words(query)
    text = "".join(query[start:end] for start, end in words)
    for form in (prompt, *(unicodedata.normalize(name, prompt) for name in ("NFC", "NFKC"))):
        length = _shared(text, "".join(form[start:end] for start, end in _words(form)))
        if length is not None:
            return without_end(query[_place(words, length) :])
    return None


def without_end(response: str) -> str:
    """Remove special tokens at the end of a response, with the white space around them."""
    end = len(response)
    for token in reversed(list(_SPECIAL.finditer(response))):
        if response[token.end() : end].strip():
            break
        end = token.start()
    return response if end == len(response) else response[:end].rstrip()


def _words(text: str) -> list[tuple[int, int]]:
    """Return the spans between special tokens and white space, as start and end."""
    words, at = [], 0
    for gap in _GAP.finditer(text):
        words.append((at, gap.start()))
        at = gap.end()
    return [*words, (at, len(text))]


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


def _place(words: list[tuple[int, int]], length: int) -> int:
    """Return the place in the text after the first *length* characters of its words."""
    for number, (start, end) in enumerate(words):
        if length < end - start:
            return start + length
        length -= end - start
        if not length and number + 1 < len(words):
            return words[number + 1][0]
    return words[-1][1]
