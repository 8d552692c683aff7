"""A tokenizer's chat template, special tokens and label tokens.

The tokenizer is any of transformers'; torch is not needed.
"""

from typing import Any

from medreward.engines.prompts.frame import PromptFrame
from medreward.engines.prompts.labels import forms_of, own_ids
from medreward.engines.templates import Template
from medreward.errors import SetupError

SAYING = "Is there a fracture: yes or no."
"""A message to be found in the text that a chat template makes of it."""


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
