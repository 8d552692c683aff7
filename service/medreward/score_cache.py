"""Stage 4: what was asked before is not asked again.

A cache is a promise that asking again would give the same, so a key holds everything that can
change the answer, and only answers are stored, never failures. Keys are digests: no text.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from cachetools import LRUCache

from medreward.judging.judge import Inquiry

V = TypeVar("V")


class ScoreCache(Protocol[V]):
    """Remembers answers by key. One that is broken may raise: it is then taken for a miss."""

    async def get_many(self, keys: Sequence[str]) -> Mapping[str, V]:
        """Give what is remembered; a key that is not is left out."""
        ...

    async def put_many(self, answers: Mapping[str, V]) -> None:
        """Remember *answers*."""
        ...


class MemoryScoreCache(Generic[V]):
    """Remembers the answers used last, in this process."""

    def __init__(self, *, max_entries: int) -> None:
        self._answers: LRUCache[str, V] = LRUCache(maxsize=max_entries)

    async def get_many(self, keys: Sequence[str]) -> Mapping[str, V]:
        """Give what is remembered, and count it as used."""
        return {key: self._answers[key] for key in keys if key in self._answers}

    async def put_many(self, answers: Mapping[str, V]) -> None:
        """Remember *answers*, dropping those not used for longest."""
        for key, answer in answers.items():
            self._answers[key] = answer


def inquiry_key(identity: str, inquiry: Inquiry) -> str:
    """Key of a judgement by the engine *identity*."""
    return _digest(
        "judgement",
        identity,
        inquiry.template.sha,
        inquiry.view,
        # A question that the prompt does not show cannot change the answer.
        inquiry.question if inquiry.template.shows_question else None,
        inquiry.criterion,
        inquiry.reference,
        inquiry.answer,
    )


def text_key(identity: str, text: str) -> str:
    """Key of a text's embedding by the engine *identity*."""
    return _digest("embedding", identity, text)


def _digest(*parts: str | None) -> str:
    # JSON keeps the parts apart: ("ab", "c") is not ("a", "bc"). Its escapes take any text.
    return hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()
