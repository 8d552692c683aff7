"""Prompts as a tree of tokens: shared beginnings are computed once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TokenTree:
    """Prompts laid out in one row, in which a shared token occurs once, after its predecessors.

    A token attends to the prefix and to the tokens before it on its path, and to nothing else.
    """

    prefix: tuple[int, ...]
    """The common beginning of all prompts; not among the tokens."""
    tokens: list[int] = field(default_factory=list)
    paths: dict[int, list[int]] = field(default_factory=dict)
    """For each prompt, by its number: the indices in `tokens` of its part after the prefix."""


def plan_trees(
    prompts: Mapping[int, Sequence[int]], prefix: Sequence[int], *, max_tokens: int
) -> list[TokenTree]:
    """Lay prompts out in trees of at most *max_tokens*; a longer prompt has a tree of its own.

    The order of the prompts does not matter: they are sorted, so equal beginnings are adjacent.
    """
    shared_prefix = tuple(prefix) if all(begins_with(p, prefix) for p in prompts.values()) else ()
    trees: list[TokenTree] = []
    last: Sequence[int] = ()
    path: list[int] = []
    for number, prompt in sorted(prompts.items(), key=lambda item: list(item[1])):
        rest = prompt[len(shared_prefix) :]
        known = common_length(last, rest)
        if not trees or len(trees[-1].tokens) + len(rest) - known > max_tokens:
            trees.append(TokenTree(shared_prefix))
            known = 0
        tree = trees[-1]
        path = path[:known] + [len(tree.tokens) + i for i in range(len(rest) - known)]
        tree.tokens.extend(rest[known:])
        tree.paths[number] = path
        last = rest
    return trees


def begins_with(prompt: Sequence[int], prefix: Sequence[int]) -> bool:
    """Return True if *prompt* begins with *prefix* and is longer."""
    return len(prompt) > len(prefix) and list(prompt[: len(prefix)]) == list(prefix)


def common_length(one: Sequence[int], other: Sequence[int]) -> int:
    """Count the leading tokens that both prompts share."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))
