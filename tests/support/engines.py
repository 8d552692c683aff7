"""Engines that are well until their warm-up is over, and then do what a test wants."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from medreward.engines.embedders.hashed import HashedEmbedder
from medreward.engines.judge import Inquiry, Judgement
from medreward.engines.judges.scripted import ScriptedJudge, certain
from medreward.errors import Problem

Trouble = Callable[[Sequence[Any]], Awaitable[Sequence[Any]]]


class TroubledJudge(ScriptedJudge):
    """A judge that is well for some batches, of which the first is its warm-up."""

    def __init__(self, trouble: Trouble, *, after: int = 1, batch: int = 4) -> None:
        super().__init__(batch=batch)
        self._trouble = trouble
        self._after = after

    async def decide(self, inquiries: Sequence[Inquiry]) -> Sequence[Judgement | Problem]:
        """Answer, or be in trouble."""
        if len(self.batches) >= self._after:
            return await self._trouble(inquiries)
        return await super().decide(inquiries)


class TroubledEmbedder(HashedEmbedder):
    """An embedder that is well for some batches, of which the first is its warm-up."""

    def __init__(self, trouble: Trouble, *, after: int = 1) -> None:
        super().__init__()
        self._trouble = trouble
        self._left = after

    async def embed(self, texts: Sequence[str]) -> Sequence[Any]:
        """Embed, or be in trouble."""
        if self._left == 0:
            return await self._trouble(texts)
        self._left -= 1
        return await super().embed(texts)


class PacedJudge(ScriptedJudge):
    """A judge that answers so many questions a second, after the batch of its warm-up."""

    def __init__(
        self, per_s: float, script: Mapping[tuple[str, str | None], str] | None = None
    ) -> None:
        super().__init__(script, batch=16)
        self._per_s = per_s

    @property
    def asked(self) -> int:
        """The number of questions it was asked after its warm-up."""
        return sum(map(len, self.batches)) - len(self.batches[0])

    async def decide(self, inquiries: Sequence[Inquiry]) -> Sequence[Judgement | Problem]:
        """Answer at its pace."""
        answers = await super().decide(inquiries)
        if len(self.batches) > 1:
            await asyncio.sleep(len(inquiries) / self._per_s)
        return answers


class Held:
    """Trouble of a judge that answers YES, but only when it may."""

    def __init__(self) -> None:
        self.is_asked = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def __call__(self, inquiries: Sequence[Inquiry]) -> Sequence[Judgement]:
        """Wait, then answer."""
        self.is_asked.set()
        await self.may_answer.wait()
        return [certain(inquiry.template, "YES") for inquiry in inquiries]


async def hang(_: Sequence[Any]) -> Sequence[Any]:
    """Never answer."""
    await asyncio.Event().wait()
    return []


def raising(error: Exception) -> Trouble:
    """Make the trouble of an engine that raises."""

    async def trouble(_: Sequence[Any]) -> Sequence[Any]:
        raise error

    return trouble


def replying(*answers: Any) -> Trouble:
    """Make the trouble of an engine that replies this, whatever it was asked."""

    async def trouble(_: Sequence[Any]) -> Sequence[Any]:
        return answers

    return trouble
