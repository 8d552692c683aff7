"""An engine of the tests of resolver and batcher: it answers with a text's length."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from medreward.engines.capacity import Capacity
from medreward.engines.keys import text_key
from medreward.errors import JUDGE_FAILURES
from medreward.inference.bindings import Binding


async def lengths(texts: Sequence[str]) -> Sequence[Any]:
    """Answer each text with its length."""
    return [len(text) for text in texts]


class Lengths(Binding[str, int]):
    """An engine that keeps its batches, and can be held. A text's group is its first letter."""

    role = "judge"
    failures = JUDGE_FAILURES

    def __init__(
        self,
        answer: Callable[[Sequence[str]], Awaitable[Sequence[Any]]] = lengths,
        *,
        batch: int = 4,
        tokens: int | None = None,
        timeout_s: float = 20.0,
    ) -> None:
        super().__init__("lengths", Capacity(batch=batch, tokens=tokens), timeout_s)
        self._answer = answer
        self.batches: list[list[str]] = []
        self.open = asyncio.Event()
        self.open.set()

    @property
    def asked(self) -> list[str]:
        """The texts of all batches."""
        return [text for batch in self.batches for text in batch]

    async def ask(self, questions: Sequence[str]) -> Sequence[Any]:
        """Answer as soon as the gate is open."""
        self.batches.append(list(questions))
        await self.open.wait()
        return await self._answer(questions)

    def keys(self, questions: Iterable[str], namespace: str) -> dict[str, bytes]:
        """Digest texts."""
        return {question: text_key(self.identity, question, namespace) for question in questions}

    def check(self, answer: int, question: str) -> bool:
        """Refuse what is no length."""
        return answer >= 0

    def pack(self, answer: int) -> bytes:
        """Encode a length."""
        return answer.to_bytes(4, "big")

    def unpack(self, packed: bytes, question: str) -> int | None:
        """Decode a length."""
        return int.from_bytes(packed, "big")

    def group(self, question: str) -> str:
        """Group texts by their first letter."""
        return question[0]

    def tokens(self, question: str) -> int:
        """Count letters."""
        return len(question)
