"""Judging in this process, one forward pass at a time, so that other batches run in between."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch

from medreward.engines import timeouts
from medreward.engines.judge import Judgement
from medreward.errors import JUDGE_FAILURES, Problem

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ForwardPass:
    """One forward pass over some inquiries of a batch."""

    members: list[int]
    """Numbers of the inquiries that it judges."""
    tokens: int
    run: Callable[[], torch.Tensor]
    """Returns one row for each member."""


Read = Callable[[int, torch.Tensor], Judgement | Problem]
"""Turns an inquiry's number and its row into an answer."""


class ModelThread:
    """The thread that models run on, and the time that one batch may take of it."""

    def __init__(self, worker: Executor, *, timeout_s: float) -> None:
        self._worker = worker
        self._timeout_s = timeout_s

    def give_up_s(self) -> float:
        """Return the time, on the monotonic clock, after which a batch of now starts no further pass."""
        return time.monotonic() + timeouts.FORWARD_PASSES * self._timeout_s

    async def take(self, work: Callable[[], T]) -> T:
        """Run *work* on the thread, after the work that was submitted before."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    async def judge(
        self, passes: Sequence[ForwardPass], read: Read, give_up_s: float
    ) -> dict[int, Judgement | Problem]:
        """Run passes, the smallest first; after *give_up_s*, the remaining inquiries are late."""
        answers: dict[int, Judgement | Problem] = {}
        for one in sorted(passes, key=lambda one: one.tokens):
            if time.monotonic() > give_up_s:
                late = JUDGE_FAILURES.problem(timeouts.too_late(self._timeout_s))
                answers |= dict.fromkeys(one.members, late)
            else:
                answers |= await self.take(partial(_judged, one, read))
        return answers


def _judged(one: ForwardPass, read: Read) -> dict[int, Judgement | Problem]:
    rows = zip(one.members, one.run(), strict=True)
    return {number: read(number, row) for number, row in rows}
