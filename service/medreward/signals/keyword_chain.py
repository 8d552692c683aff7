r"""The signal `keyword_chain`: the answer has the keywords of key points in their order (RLVRR).

    value = mean over key points of max over references and lists of
            LCS(K_ref, K_y) / max(|K_ref|, |K_y|), or 0 if both are empty

A key point has one or more lists of keywords. K_ref are the keywords of a list found in a reference,
K_y those found in the answer, both in the order of their occurrence; LCS is the length of their
longest common subsequence. A keyword is found as `(?<!\w)(?:…|…)(?!\w)` finds it, without regard to
case, the first of a list that fits winning.

Source: RLVRR, arXiv 2601.18533, `keyword_reward_func` of YJiangcm/RLVRR. Its term for the length is
multiplied by 0.0 there, and left out here.

Ours: several references; a list is compared with each. The first 1,000 keywords of a chain are
compared, and all are counted. Case is folded by `str.lower`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from medreward.signals.kind import Rollout, SignalKind

MAX_LISTS, MAX_KEYWORDS, MAX_TOKENS = 64, 256, 32
"""Lists and keywords of a sample, and words and signs of a keyword: more cost time at each word."""
MAX_COMPARED = 1000
"""Keywords of a chain that are compared."""

_TOKEN = re.compile(r"\w+|\W")
"""A keyword ends at the edges of such tokens, or the word borders around it would not hold."""


def _is_short(keyword: str) -> str:
    if len(_TOKEN.findall(keyword)) > MAX_TOKENS:
        raise ValueError(f"over {MAX_TOKENS} words and signs; give a shorter keyword")
    return keyword


Keyword = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_is_short)]
Keywords = Annotated[tuple[Keyword, ...], Field(min_length=1, max_length=64)]
KeyPoint = Annotated[tuple[Keywords, ...], Field(min_length=1, max_length=16)]


class Options(BaseModel):
    """There is nothing to set."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Inputs(BaseModel):
    """The key points of a sample."""

    model_config = ConfigDict(frozen=True)

    key_points: Annotated[tuple[KeyPoint, ...], Field(min_length=1, max_length=64)]
    """By key point: lists of keywords, as RLVRR's data have them."""

    @model_validator(mode="after")
    def _are_few(self) -> Self:
        if len(self.lists) > MAX_LISTS or sum(map(len, self.lists)) > MAX_KEYWORDS:
            raise ValueError(
                f"`key_points`: over {MAX_LISTS} lists or {MAX_KEYWORDS} keywords; give fewer"
            )
        return self

    @property
    def lists(self) -> list[Keywords]:
        """The lists of all key points, in order."""
        return [keywords for point in self.key_points for keywords in point]


class Chain(NamedTuple):
    """Keywords of one list in a text, in the order of their occurrence."""

    keywords: tuple[int, ...]
    """Places in the list, at most `MAX_COMPARED`."""
    length: int
    r"""How many there are."""


def value(rollout: Rollout, inputs: Inputs, _options: Options) -> float:
    """Return the value, from 0 to 1."""
    lists = inputs.lists
    said = chains(rollout.answer, lists)
    meant = [chains(reference, lists) for reference in rollout.references]
    likeness = [
        max((_likeness(chain[i], said[i]) for chain in meant), default=0.0)
        for i in range(len(lists))
    ]
    best, start = [], 0
    for point in inputs.key_points:
        best.append(max(likeness[start : start + len(point)]))
        start += len(point)
    return sum(best) / len(best)


def _likeness(one: Chain, other: Chain) -> float:
    longest = max(one.length, other.length)
    return common_length(one.keywords, other.keywords) / longest if longest else 0.0


def common_length(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the length of the longest common subsequence.

    A row of the usual table is the bits of one number (Hyyrö 2004, Bit-parallel LCS-length
    computation revisited): a zero for each place of *one* at which the length grows.
    """
    places: dict[int, int] = {}
    for place, keyword in enumerate(one):
        places[keyword] = places.get(keyword, 0) | 1 << place
    full = (1 << len(one)) - 1
    row = full
    for keyword in other:
        matches = row & places.get(keyword, 0)
        row = (row + matches | row - matches) & full
    return len(one) - row.bit_count()


@dataclass
class _Node:
    """A token of keywords, and the tokens that may follow it."""

    following: dict[str, "_Node"] = field(default_factory=dict)
    ends: list[tuple[int, int]] = field(default_factory=list)
    """Keywords that end here: the list, and the place in it."""


def chains(text: str, lists: Sequence[Sequence[str]]) -> list[Chain]:
    """Find the keywords of each list in a text, in one pass for all lists."""
    root = _tree(lists)
    tokens = _TOKEN.findall(text.lower())
    found: list[list[int]] = [[] for _ in lists]
    lengths, free = [0] * len(lists), [0] * len(lists)
    for start, token in enumerate(tokens):
        if token not in root.following or (start and _is_word(tokens[start - 1])):
            continue
        for which, (place, end) in _first(tokens, start, root, free).items():
            free[which] = end
            lengths[which] += 1
            if lengths[which] <= MAX_COMPARED:
                found[which].append(place)
    return [Chain(tuple(places), n) for places, n in zip(found, lengths, strict=True)]


def _is_word(token: str) -> bool:
    r"""Return whether a token is of the characters that `\w` matches."""
    return token[0].isalnum() or token[0] == "_"


def _tree(lists: Sequence[Sequence[str]]) -> _Node:
    """Arrange the keywords of all lists as a tree of their tokens."""
    root = _Node()
    for which, keywords in enumerate(lists):
        for place, keyword in enumerate(keywords):
            node = root
            for token in _TOKEN.findall(keyword.lower()):
                node = node.following.setdefault(token, _Node())
            node.ends.append((which, place))
    return root


def _first(
    tokens: Sequence[str], start: int, root: _Node, free: Sequence[int]
) -> dict[int, tuple[int, int]]:
    """Find by list the first of its keywords that begins at a token, with its end.

    A list whose last keyword ends only behind the token, in *free*, has none.
    """
    found: dict[int, tuple[int, int]] = {}
    node: _Node | None = root
    for end in range(start, len(tokens)):
        node = node.following.get(tokens[end]) if node else None
        if node is None:
            break
        if not node.ends or (end + 1 < len(tokens) and _is_word(tokens[end + 1])):
            continue
        for which, place in node.ends:
            if free[which] <= start and (which not in found or place < found[which][0]):
                found[which] = (place, end + 1)
    return found


KIND = SignalKind(options=Options, inputs=Inputs, value=value, needs=("reference",))
