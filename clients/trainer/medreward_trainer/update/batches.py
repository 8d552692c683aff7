"""Prompts and responses as a model's tensors: B samples, L prompt and T response tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from medreward_trainer.data.prompts import Prompt, Prompter

ALONG_TOKENS = frozenset({"mm_token_type_ids", "token_type_ids"})
"""Inputs with one value for each token; images have lengths of their own."""


@dataclass(frozen=True, slots=True)
class SequenceBatch:
    """Prompts padded on the left, and their responses padded on the right.

    The last T positions of `inputs` are the responses. `mask_BT` is 1 where a response has a token.
    """

    inputs: dict[str, Tensor]
    responses_BT: Tensor
    mask_BT: Tensor


def prompt_batch(prompts: Sequence[Prompt], prompter: Prompter) -> dict[str, Tensor]:
    """Lay out prompts for `generate`, padded on the left, so that all responses start together.

    Raises:
        BadData: an image cannot be read.
    """
    return {
        **_tokens(prompts, prompter.tokenizer.pad_token_id),
        **_pictures(prompts, prompter, behind=0),
    }


def sequence_batch(
    prompts: Sequence[Prompt], responses: Sequence[Sequence[int]], prompter: Prompter
) -> SequenceBatch:
    """Lay out prompts and their responses for one pass.

    Raises:
        BadData: an image cannot be read.
    """
    pad_id = prompter.tokenizer.pad_token_id
    longest = max(len(response) for response in responses)
    responses_BT = _table([[*r, *[pad_id] * (longest - len(r))] for r in responses])
    mask_BT = _table([[1] * len(r) + [0] * (longest - len(r)) for r in responses])
    front = _tokens(prompts, pad_id)
    mask_BS = torch.cat([front["attention_mask"], mask_BT], dim=1)
    inputs = {
        "input_ids": torch.cat([front["input_ids"], responses_BT], dim=1),
        "attention_mask": mask_BS,
    }
    pictures = _pictures(prompts, prompter, behind=longest)
    # With images a model computes its positions itself, in two dimensions.
    positions = {} if pictures else {"position_ids": (mask_BS.cumsum(dim=1) - 1).clamp(min=0)}
    return SequenceBatch({**inputs, **pictures, **positions}, responses_BT, mask_BT.float())


def _table(rows: list[list[int]]) -> Tensor:
    # The dtype is given, since a tensor of empty rows would be float32.
    return torch.tensor(rows, dtype=torch.long)


def _tokens(prompts: Sequence[Prompt], pad_id: int) -> dict[str, Tensor]:
    longest = max(prompt.length for prompt in prompts)
    return {
        "input_ids": _table([[pad_id] * (longest - p.length) + [*p.token_ids] for p in prompts]),
        "attention_mask": _table([[0] * (longest - p.length) + [1] * p.length for p in prompts]),
    }


def _pictures(prompts: Sequence[Prompt], prompter: Prompter, *, behind: int) -> dict[str, Tensor]:
    """Return the processor's inputs for the images, padded if they have a value for each token."""
    # The samples of a group share one prompt object, so its images are prepared once.
    made = {id(prompt): prompter.picture_tensors(prompt) for prompt in prompts}
    rows = [made[id(prompt)] for prompt in prompts]
    longest = max(prompt.length for prompt in prompts)
    found = {}
    for name in sorted({name for tensors in rows for name in tensors}):
        if name in ALONG_TOKENS:
            # Padded like the tokens; for text the value is 0.
            text = [torch.zeros(1, prompt.length, dtype=torch.long) for prompt in prompts]
            padded = [
                pad(tensors.get(name, zeros_1L), (longest - prompt.length, behind))
                for tensors, zeros_1L, prompt in zip(rows, text, prompts, strict=True)
            ]
            found[name] = torch.cat(padded)
        else:
            found[name] = joined([tensors[name] for tensors in rows if name in tensors])
    return found


def joined(tensors: Sequence[Tensor]) -> Tensor:
    """Concatenate images; zeros pad the smaller ones, as in a processor's own batches."""
    largest = [max(edges) for edges in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
    return torch.cat([_filled(tensor, largest) for tensor in tensors])


def _filled(tensor: Tensor, largest: Sequence[int]) -> Tensor:
    missing = [edge - own for edge, own in zip(largest, tensor.shape[1:], strict=True)]
    # `pad` takes the last dimension first, and for each the padding before and after.
    return pad(tensor, [edge for gap in reversed(missing) for edge in (0, gap)])
