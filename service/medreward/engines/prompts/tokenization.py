"""A tokenizer's chat template, special tokens, label tokens and known characters.

The tokenizer is any of transformers'; torch is not needed.
"""

import re
import unicodedata
from typing import Any

from medreward.engines.prompts.frame import PromptFrame
from medreward.engines.prompts.labels import forms_of, own_ids
from medreward.engines.templates import Template
from medreward.errors import SetupError

SAYING = "Is there a fracture: yes or no."
"""A message to be found in the text that a chat template makes of it."""

UNHEARD_OF = "\U00012000"
"""A cuneiform sign: a tokenizer that does not take it for unknown reads bytes, and so any text."""

MOST_LETTERS = 100
"""WordPiece takes a longer word for unknown."""

_PIECE = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]|[^\W_\u3400-\u9fff\uf900-\ufaff]+|[^\s\w]|_")
"""Matches a word, or one sign; Chinese characters are words of their own."""


def chat_frame(tokenizer: Any) -> PromptFrame:
    """Derive the text that the chat template writes around a message; without one, an empty line.

    Raises:
        SetupError: the template does not leave a message as it is.
    """
    if not tokenizer.chat_template:
        return PromptFrame("", "\n\n")
    text: str = tokenizer.apply_chat_template(
        [{"role": "user", "content": SAYING}], tokenize=False, add_generation_prompt=True
    )
    before, found, after = text.partition(SAYING)
    if not found or SAYING in after:
        raise SetupError(
            "the judge's chat template does not leave a message as it is; "
            "choose another MEDREWARD_JUDGE_MODEL"
        )
    return PromptFrame(before, after)


def special_tokens(tokenizer: Any) -> set[str]:
    """Collect the strings that the tokenizer reads as one special token."""
    added = (str(token) for token in tokenizer.added_tokens_decoder.values())
    return {*tokenizer.all_special_tokens, *added}


def label_ids(tokenizer: Any, template: Template) -> list[list[int]]:
    """List the token ids that begin each label of *template* after its opening.

    A label counts in upper, title and lower case, with and without a leading space, by its first
    token; first tokens that two labels share do not distinguish them and are left out.

    Raises:
        SetupError: a label is left without a token of its own.
    """
    firsts = {label: _first_ids(tokenizer, template.opening, label) for label in template.labels}
    own = own_ids(firsts)
    for label, ids in own.items():
        if not ids:
            raise SetupError(
                f"this judge's tokenizer cannot tell the label {label!r} of the template "
                f"{template.name!r} from the others by its first token; choose another judge model"
            )
    return list(own.values())


def _first_ids(tokenizer: Any, opening: str, label: str) -> set[int]:
    before: list[int] = tokenizer.encode(opening, add_special_tokens=False)
    firsts = set()
    for form in forms_of(label):
        ids: list[int] = tokenizer.encode(opening + form, add_special_tokens=False)
        # A tokenizer that merges the opening with the label has no verdict position there.
        if ids[: len(before)] == before and len(ids) > len(before):
            firsts.add(ids[len(before)])
    return firsts


def known_characters(tokenizer: Any) -> frozenset[str] | None:
    """Collect the characters beyond ASCII in the vocabulary; None if the tokenizer reads any text."""
    unknown = tokenizer.unk_token_id
    if unknown is None or unknown not in tokenizer.encode(UNHEARD_OF, add_special_tokens=False):
        return None
    return frozenset(
        sign for token in tokenizer.get_vocab() for sign in token if not sign.isascii()
    )


def can_read(text: str, characters: frozenset[str] | None) -> bool:
    """Return whether a tokenizer that knows *characters* makes words of at least half of a text."""
    if characters is None or (text.isascii() and len(text) <= MOST_LETTERS):
        return True
    length = unread = 0
    for piece in _PIECE.findall(text):
        length += len(piece)
        if len(piece) > MOST_LETTERS or not _is_known(piece, characters):
            unread += len(piece)
    return 2 * unread <= length


def _is_known(piece: str, characters: frozenset[str]) -> bool:
    """Return whether each character is known, or without its accent and in lower case."""
    if piece.isascii() or characters.issuperset(sign for sign in piece if not sign.isascii()):
        return True
    folded = unicodedata.normalize("NFKD", piece.casefold())
    return all(
        sign.isascii() or sign in characters or unicodedata.combining(sign) for sign in folded
    )
