"""Forward passes of a causal language model: prompts in, next-token logits out.

If the model supports it, prompts are a tree and shared beginnings are computed once; otherwise each
prompt is a padded row of its own.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from inspect import signature
from typing import Any

import structlog
import torch
from cachetools import LRUCache
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from medreward.engines.local.bucketing import by_length
from medreward.engines.local.storage import arithmetic_dtype
from medreward.engines.local.token_tree import TokenTree, plan_trees
from medreward.engines.local.worker import ForwardPass

States = tuple[tuple[torch.Tensor, torch.Tensor], ...]
"""Keys and values of a prefix, layer by layer."""

TREE_TOKENS = {"cpu": 512}
GPU_TREE_TOKENS = 2048
"""The most tokens of a tree. More is slower: each token's row in the mask grows with the tree."""

PADDED_TOKENS = 4096
"""The most tokens of a padded pass, which bound its memory; a longer prompt has its own pass."""

PREFIXES_KEPT = 8
"""Prefixes in the cache, one for each template in use: some 10 MB each with the default models."""

MASKABLE_ATTENTION = ("sdpa", "eager")
"""The implementations of attention that accept an explicit mask."""

PROBE_TOLERANCE = {torch.float32: 1e-3}
HALF_PROBE_TOLERANCE = 0.1
"""Mean distance of log-probabilities that rounding explains, since sums have another order."""

log = structlog.get_logger(__name__)


class TreePasses:
    """Computes shared beginnings once: prefixes are cached, other beginnings are shared in a pass."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._dtype = arithmetic_dtype(model)
        self._max_tokens = TREE_TOKENS.get(model.device.type, GPU_TREE_TOKENS)
        self._padded = PaddedPasses(model)
        # transformers renamed the argument in 5.24, and warns about the old name.
        names = signature(model.base_model.forward).parameters
        self._cache_name = "cache" if "cache" in names else "past_key_values"
        self._prefixes: LRUCache[tuple[int, ...], States] = LRUCache(PREFIXES_KEPT)

    def plan(
        self, prompts: Mapping[int, Sequence[int]], prefix: Sequence[int]
    ) -> list[ForwardPass]:
        """Plan one pass for each tree; prompts longer than a tree gain little, and are padded rows.

        The prompts are numbered, and probably all begin with *prefix*. A pass returns one row for
        each member: float32 logits over the vocabulary.
        """
        short = {n: p for n, p in prompts.items() if len(p) <= self._max_tokens}
        trees = plan_trees(short, prefix, max_tokens=self._max_tokens)
        shared = [ForwardPass(list(t.paths), len(t.tokens), partial(self._run, t)) for t in trees]
        long = {n: p for n, p in prompts.items() if n not in short}
        return shared + self._padded.plan(long, prefix)

    @torch.inference_mode()
    def _run(self, tree: TokenTree) -> torch.Tensor:
        device = self._model.device
        mask_TK, positions_T = _layout(tree, self._dtype)
        ends_P = torch.tensor([path[-1] for path in tree.paths.values()])
        logits_1PV: torch.Tensor = self._model(
            input_ids=torch.tensor([tree.tokens]).to(device),
            attention_mask=mask_TK[None, None].to(device),
            position_ids=positions_T[None].to(device),
            use_cache=True,
            logits_to_keep=ends_P.to(device),
            # A new cache for each pass: the pass appends to it, and must not change the prefix.
            **{self._cache_name: DynamicCache(self._states(tree.prefix))},
        ).logits
        return logits_1PV[0].float()

    def _states(self, prefix: tuple[int, ...]) -> States:
        """Return a prefix's keys and values, computed from the prefix alone, so that batches do not matter."""
        if prefix and prefix not in self._prefixes:
            cache = DynamicCache()
            ids = torch.tensor([prefix]).to(self._model.device)
            named = {self._cache_name: cache}
            self._model(input_ids=ids, use_cache=True, logits_to_keep=1, **named)
            self._prefixes[prefix] = tuple((layer.keys, layer.values) for layer in cache.layers)
        return self._prefixes[prefix] if prefix else ()


class PaddedPasses:
    """Computes each prompt as one row, padded on the left to the longest."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def plan(
        self, prompts: Mapping[int, Sequence[int]], prefix: Sequence[int]
    ) -> list[ForwardPass]:
        """Plan passes of prompts of similar length; the prefix is ignored."""
        del prefix
        lengths = {number: len(prompt) for number, prompt in prompts.items()}
        groups = by_length(lengths, max_tokens=PADDED_TOKENS)
        return [self._pass({number: prompts[number] for number in group}) for group in groups]

    def _pass(self, prompts: Mapping[int, Sequence[int]]) -> ForwardPass:
        rows = list(prompts.values())
        return ForwardPass(list(prompts), sum(map(len, rows)), partial(self._run, rows))

    @torch.inference_mode()
    def _run(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        longest = max(map(len, prompts))
        ids_PT = torch.zeros((len(prompts), longest), dtype=torch.long)
        mask_PT = torch.zeros_like(ids_PT)
        for row, prompt in enumerate(prompts):
            ids_PT[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask_PT[row, longest - len(prompt) :] = 1
        # Positions start at the first real token, so padding cannot move a probability.
        positions_PT = (mask_PT.cumsum(dim=1) - 1).clamp(min=0)
        device = self._model.device
        logits_P1V: torch.Tensor = self._model(
            input_ids=ids_PT.to(device),
            attention_mask=mask_PT.to(device),
            position_ids=positions_PT.to(device),
            logits_to_keep=1,
            use_cache=False,
        ).logits
        return logits_P1V[:, -1].float()


Passes = TreePasses | PaddedPasses
"""A way of running prompts through a model."""


def passes_for(model: Any) -> Passes:
    """Choose trees if the model supports them and a probe has the same result as padded rows."""
    tree, padded = TreePasses(model), PaddedPasses(model)
    shares = _looks_at_every_token(model) and _agree(tree, padded, model)
    log.info("judge_passes", shares_prefixes=shares)
    return tree if shares else padded


def _layout(tree: TokenTree, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Build the mask that is added to the attention's scores, and the position of each token."""
    before, size = len(tree.prefix), len(tree.tokens)
    positions_T = torch.zeros(size, dtype=torch.long)
    # Numbers and not booleans, since the eager attention adds the mask to its scores.
    mask_TK = torch.full((size, before + size), torch.finfo(dtype).min, dtype=dtype)
    mask_TK[:, :before] = 0
    for path in tree.paths.values():
        places_L = torch.tensor(path)
        positions_T[places_L] = before + torch.arange(len(path))
        later_LL = torch.full((len(path), len(path)), torch.finfo(dtype).min, dtype=dtype).triu(1)
        mask_TK[places_L[:, None], before + places_L[None]] = later_LL
    return mask_TK, positions_T


def _looks_at_every_token(model: Any) -> bool:
    """Return True if every layer attends to all tokens and the model accepts mask and positions.

    Models with windows, states or chunks get other layers than `DynamicLayer` in their cache.
    """
    try:
        layers = DynamicCache(config=model.config).layers
    except Exception:  # noqa: BLE001 - a model's own configuration may lack anything; then it has none
        return False
    return (
        all(type(layer) is DynamicLayer for layer in layers)
        and model.config._attn_implementation in MASKABLE_ATTENTION  # noqa: SLF001 - no other way to ask
        and {"position_ids", "logits_to_keep"} <= signature(model.forward).parameters.keys()
    )


def _agree(tree: TreePasses, padded: PaddedPasses, model: Any) -> bool:
    """Return True if both ways agree on three prompts with a shared beginning and one without."""
    words = model.config.get_text_config().vocab_size
    count = [(7 * i + 11) % words for i in range(48)]
    prompts = {0: count, 1: count[:24] + count[:9], 2: count[:24] + count[30:], 3: count[:8][::-1]}
    try:
        rows = [_log_probabilities(way, prompts, count[:8]) for way in (tree, padded)]
    except Exception:  # noqa: BLE001 - a model may refuse our masks with anything; then it gets none
        return False
    distance = float((rows[0] - rows[1]).abs().mean())
    return distance < PROBE_TOLERANCE.get(arithmetic_dtype(model), HALF_PROBE_TOLERANCE)


def _log_probabilities(
    way: Passes, prompts: Mapping[int, Sequence[int]], prefix: Sequence[int]
) -> torch.Tensor:
    """Run *prompts*, those that begin with *prefix* separately from the others."""
    rows: dict[int, torch.Tensor] = {}
    for begins in (True, False):
        some = {n: p for n, p in prompts.items() if (p[: len(prefix)] == prefix) is begins}
        for one in way.plan(some, prefix):
            rows |= zip(one.members, one.run(), strict=True)
    return torch.stack([rows[number] for number in prompts]).log_softmax(dim=-1)
