"""From an inquiry to the tokens a language model reads, and from its next token to a judgement.

Shared by the engines that hold a tokenizer, so that they ask alike and read alike. The tokenizer is
any of transformers'; nothing here needs torch.
"""

import math
from collections.abc import Sequence
from typing import Any

from medreward.errors import Problem, ProblemKind, SetupError
from medreward.judging.judge import Inquiry, Judgement
from medreward.judging.prompt import Fence
from medreward.judging.templates import Template


def prompt_ids(tokenizer: Any, fence: Fence, inquiry: Inquiry) -> list[int]:
    """Tokenise the prompt up to the verdict position."""
    content = fence.render(inquiry)
    if tokenizer.chat_template:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
    else:
        text = content + "\n\n"
    text += inquiry.template.opening
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids


def too_long(prompt: Sequence[int], most: int) -> Problem:
    """Say that a prompt is longer than the judge reads."""
    return Problem(
        ProblemKind.TOO_LONG,
        f"the judge's prompt has {len(prompt)} tokens; it reads at most {most}",
    )


def weigh(masses: Sequence[float], template: Template, floor: float) -> Judgement | Problem:
    """Turn the probability that fell on each label into a judgement, if enough fell on any."""
    coverage = math.fsum(masses)
    # Written so that what is no number is refused as well.
    if not (coverage >= floor and coverage > 0):
        return Problem(
            ProblemKind.JUDGE_UNPARSEABLE,
            f"{coverage:.3f} of the probability fell on {'/'.join(template.labels)}; "
            f"the floor is {floor}",
        )
    return Judgement(template.labels, tuple(mass / coverage for mass in masses), min(1.0, coverage))


def special_tokens(tokenizer: Any) -> set[str]:
    """Every string that the tokenizer reads as one special token."""
    added = (str(token) for token in tokenizer.added_tokens_decoder.values())
    return {*tokenizer.all_special_tokens, *added}


def label_ids(tokenizer: Any, template: Template) -> list[list[int]]:
    """Token ids that begin each label of *template* after its opening.

    A label counts in upper, title and lower case, with and without a leading space, by its first
    token; first tokens that two labels share tell nothing and are left out.

    Raises:
        SetupError: a label is left without a token of its own.
    """
    firsts = [_first_ids(tokenizer, template.opening, label) for label in template.labels]
    own: list[list[int]] = []
    for label, ids in zip(template.labels, firsts, strict=True):
        others = set().union(*(other for other in firsts if other is not ids))
        if not ids - others:
            raise SetupError(
                f"this judge's tokenizer cannot tell the label {label!r} of the template "
                f"{template.name!r} from the others by its first token; choose another judge model"
            )
        own.append(sorted(ids - others))
    return own


def _first_ids(tokenizer: Any, opening: str, label: str) -> set[int]:
    before: list[int] = tokenizer.encode(opening, add_special_tokens=False)
    firsts = set()
    for form in {label, label.title(), label.lower()}:
        for spaced in (form, f" {form}"):
            ids: list[int] = tokenizer.encode(opening + spaced, add_special_tokens=False)
            # A tokenizer that merges the opening with the label has no verdict position there.
            if ids[: len(before)] == before and len(ids) > len(before):
                firsts.add(ids[len(before)])
    return firsts
