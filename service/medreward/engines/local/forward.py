"""Forward passes of a causal language model: prompts in, next-token probabilities out.

Where the model allows it, prompts are a tree and what they begin with is computed once; where it
does not, each is a row of its own, padded.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from inspect import signature
from typing import Any, Protocol

import structlog
import torch
from cachetools import LRUCache
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from medreward.engines.local.bucketing import by_length
from medreward.engines.local.token_tree import TokenTree, plan_trees
from medreward.engines.local.worker import ForwardPass

States = tuple[tuple[torch.Tensor, torch.Tensor], ...]
"""Keys and values of a prefix, layer by layer."""

TREE_TOKENS = {"cpu": 512}
GPU_TREE_TOKENS = 2048
"""Tokens of a tree. More is slower: a token's row in the mask grows with its neighbours."""

PADDED_TOKENS = 4096
"""Bounds the memory of a padded pass; short prompts share one, a long one goes alone."""

PREFIXES_KEPT = 8
"""One for each template in use; some 10 MB each with the default models."""

MASKABLE_ATTENTION = ("sdpa", "eager")
"""The implementations that take a mask of our own."""

PROBE_TOLERANCE = {torch.float32: 1e-3}
HALF_PROBE_TOLERANCE = 0.1
"""Mean distance of log-probabilities that is still rounding; another order of sums moves them."""

log = structlog.get_logger(__name__)


class Passes(Protocol):
    """How prompts go through a model."""

    def plan(
        self, prompts: Mapping[int, Sequence[int]], prefix: Sequence[int]
    ) -> list[ForwardPass]:
        """Plan passes over numbered prompts that probably all begin with *prefix*.

        A pass gives one row a member: float32 probabilities over the vocabulary.
        """
        ...


class TreePasses:
    """Computes a prefix once and keeps it; computes what prompts of a pass share once."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._max_tokens = TREE_TOKENS.get(model.device.type, GPU_TREE_TOKENS)
        self._padded = PaddedPasses(model)
        # transformers renamed it with 5.24, and warns of the old name.
        names = signature(model.forward).parameters
        self._cache_name = "cache" if "cache" in names else "past_key_values"
        self._prefixes: LRUCache[tuple[int, ...], States] = LRUCache(PREFIXES_KEPT)

    def plan(
        self, prompts: Mapping[int, Sequence[int]], prefix: Sequence[int]
    ) -> list[ForwardPass]:
        """Plan one pass a tree; what is as long as a tree gains little, and its mask is large."""
        short = {n: p for n, p in prompts.items() if len(p) <= self._max_tokens}
        trees = plan_trees(short, prefix, max_tokens=self._max_tokens)
        shared = [ForwardPass(list(t.paths), len(t.tokens), partial(self._run, t)) for t in trees]
        long = {n: p for n, p in prompts.items() if n not in short}
        return shared + self._padded.plan(long, prefix)

    @torch.inference_mode()
    def _run(self, tree: TokenTree) -> torch.Tensor:
        device = self._model.device
        mask_TK, positions_T = _layout(tree, self._model.dtype)
        ends_P = torch.tensor([path[-1] for path in tree.paths.values()])
        logits_1PV: torch.Tensor = self._model(
            input_ids=torch.tensor([tree.tokens]).to(device),
            attention_mask=mask_TK[None, None].to(device),
            position_ids=positions_T[None].to(device),
            use_cache=True,
            logits_to_keep=ends_P.to(device),
            # A cache of its own: the pass appends to it, and copies what it begins with.
            **{self._cache_name: DynamicCache(self._states(tree.prefix))},
        ).logits
        return logits_1PV[0].float().softmax(dim=-1)

    def _states(self, prefix: tuple[int, ...]) -> States:
        """Give a prefix's keys and values: always those of the prefix alone, whoever asks first."""
        if prefix and prefix not in self._prefixes:
            cache = DynamicCache()
            ids = torch.tensor([prefix]).to(self._model.device)
            named = {self._cache_name: cache}
            self._model(input_ids=ids, use_cache=True, logits_to_keep=1, **named)
            self._prefixes[prefix] = tuple((layer.keys, layer.values) for layer in cache.layers)
        return self._prefixes[prefix] if prefix else ()


class PaddedPasses:
    """Computes each prompt as a row of its own, padded on the left to the longest."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def plan(
        self, prompts: Mapping[int, Sequence[int]], prefix: Sequence[int]
    ) -> list[ForwardPass]:
        """Plan passes of prompts of like length; the prefix is not made use of."""
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
        return logits_P1V[:, -1].float().softmax(dim=-1)


def passes_for(model: Any) -> Passes:
    """Take the tree where the model is built for it, and gives the same as without on a probe."""
    tree, padded = TreePasses(model), PaddedPasses(model)
    shares = _looks_at_every_token(model) and _agree(tree, padded, model)
    log.info("judge_passes", shares_prefixes=shares)
    return tree if shares else padded


def _layout(tree: TokenTree, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Say what each token may look at, added to the attention's scores, and where it stands."""
    before, size = len(tree.prefix), len(tree.tokens)
    positions_T = torch.zeros(size, dtype=torch.long)
    # Numbers, not booleans: the eager attention adds them.
    mask_TK = torch.full((size, before + size), torch.finfo(dtype).min, dtype=dtype)
    mask_TK[:, :before] = 0
    for path in tree.paths.values():
        places_L = torch.tensor(path)
        positions_T[places_L] = before + torch.arange(len(path))
        later_LL = torch.full((len(path), len(path)), torch.finfo(dtype).min, dtype=dtype).triu(1)
        mask_TK[places_L[:, None], before + places_L[None]] = later_LL
    return mask_TK, positions_T


def _looks_at_every_token(model: Any) -> bool:
    """Tell by the cache that transformers would give it: no windows, no states, no chunks."""
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
    """Tell whether both ways give the same, for three prompts that share and one that does not."""
    words = model.config.get_text_config().vocab_size
    count = [(7 * i + 11) % words for i in range(48)]
    prompts = {0: count, 1: count[:24] + count[:9], 2: count[:24] + count[30:], 3: count[:8][::-1]}
    try:
        rows = [_log_probabilities(way, prompts, count[:8]) for way in (tree, padded)]
    except Exception:  # noqa: BLE001 - a model may refuse our masks with anything; then it gets none
        return False
    distance = float((rows[0] - rows[1]).abs().mean())
    return distance < PROBE_TOLERANCE.get(model.dtype, HALF_PROBE_TOLERANCE)


def _log_probabilities(
    way: Passes, prompts: Mapping[int, Sequence[int]], prefix: Sequence[int]
) -> torch.Tensor:
    """Run *prompts*, those that begin with *prefix* apart from the others."""
    rows: dict[int, torch.Tensor] = {}
    for begins in (True, False):
        some = {n: p for n, p in prompts.items() if (p[: len(prefix)] == prefix) is begins}
        for one in way.plan(some, prefix):
            rows |= zip(one.members, one.run(), strict=True)
    return torch.stack([rows[number] for number in prompts]).clamp(min=1e-30).log()
