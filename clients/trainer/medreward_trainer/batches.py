"""Prompts and responses as the tensors that a model takes. B samples, L prompt and T response tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from medreward_trainer.prompts import Prompt, Prompter

ALONG_TOKENS = frozenset({"mm_token_type_ids", "token_type_ids"})
"""What has one value a token beside the tokens themselves; pictures have their own lengths."""


@dataclass(frozen=True, slots=True)
class SequenceBatch:
    """Prompts padded on the left, and their responses padded on the right.

    The last T positions of `inputs` are the responses. `mask_BT` is 1 where a response has a token.
    """

    inputs: dict[str, Tensor]
    responses_BT: Tensor
    mask_BT: Tensor


def prompt_batch(prompts: Sequence[Prompt], prompter: Prompter) -> dict[str, Tensor]:
    """Lay prompts out for `generate`: padded on the left, so that all end where a response begins."""
    pad_id = prompter.tokenizer.pad_token_id
    longest = max(prompt.length for prompt in prompts)
    tokens_BL = torch.tensor([[pad_id] * (longest - p.length) + list(p.token_ids) for p in prompts])
    mask_BL = torch.tensor([[0] * (longest - p.length) + [1] * p.length for p in prompts])
    pictures = _pictures(prompts, prompter, longest=longest, behind=0)
    return {"input_ids": tokens_BL, "attention_mask": mask_BL, **pictures}


def sequence_batch(
    prompts: Sequence[Prompt], responses: Sequence[Sequence[int]], prompter: Prompter
) -> SequenceBatch:
    """Lay prompts and their responses out for one pass."""
    front, pad_id = prompt_batch(prompts, prompter), prompter.tokenizer.pad_token_id
    longest = max(len(response) for response in responses)
    responses_BT = torch.tensor([[*r, *[pad_id] * (longest - len(r))] for r in responses])
    mask_BT = torch.tensor([[1] * len(r) + [0] * (longest - len(r)) for r in responses])
    mask_BS = torch.cat([front["attention_mask"], mask_BT], dim=1)
    inputs = {
        "input_ids": torch.cat([front["input_ids"], responses_BT], dim=1),
        "attention_mask": mask_BS,
        **_pictures(prompts, prompter, longest=front["input_ids"].shape[1], behind=longest),
    }
    if len(inputs) == 2:  # noqa: PLR2004 - the two above: text alone
        # With pictures a model counts its positions itself, in two dimensions.
        inputs["position_ids"] = (mask_BS.cumsum(dim=1) - 1).clamp(min=0)
    return SequenceBatch(inputs, responses_BT, mask_BT.float())


def _pictures(
    prompts: Sequence[Prompt], prompter: Prompter, *, longest: int, behind: int
) -> dict[str, Tensor]:
    """What the processor makes of the prompts' images; padded where it has a value a token."""
    found = [prompter.picture_tensors(prompt) for prompt in prompts]
    names = {name for tensors in found for name in tensors}
    return {
        name: torch.cat(
            [
                _along(tensors.get(name), prompt, longest=longest, behind=behind)
                if name in ALONG_TOKENS
                else tensors[name]
                for prompt, tensors in zip(prompts, found, strict=True)
                if name in ALONG_TOKENS or name in tensors
            ]
        )
        for name in sorted(names)
    }


def _along(values_1L: Tensor | None, prompt: Prompt, *, longest: int, behind: int) -> Tensor:
    if values_1L is None:
        values_1L = torch.zeros(1, prompt.length, dtype=torch.long)
    return pad(values_1L, (longest - prompt.length, behind))
