"""Start-time fair queueing: batches from the questions of many callers. No event loop, no clock.

The caller that was served the fewest questions is next, so one caller's thousands of questions do
not delay another's few (Goyal, Vin and Cheng 1996, with one unit of service for each question).
"""

import heapq
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, TypeVar

from medreward.engines.capacity import Capacity

Q = TypeVar("Q")

QUANTUM = 8
"""Questions in one turn of a flow: about as many as a group of rollouts asks."""

RESERVED_SHARE = 8
"""For every eight concurrent batches of an engine, one more is reserved for small flows."""


@dataclass(eq=False, slots=True)
class Entry(Generic[Q]):
    """A waiting question, shared by the flows of all callers who asked it."""

    key: bytes
    question: Q
    flows: int = 0
    is_taken: bool = False


@dataclass(order=True, slots=True)
class Flow(Generic[Q]):
    """The waiting questions of one caller; flows are ordered by what each was served."""

    served: float
    """Virtual time at the flow's start, plus the questions taken from it since."""
    deadline_s: float
    number: int
    entries: list[Entry[Q]] = field(compare=False)
    """The questions in reverse order: the next one is popped from the end."""


@dataclass(frozen=True, slots=True)
class Batch(Generic[Q]):
    """Questions for the engine, by key; counts as running until `FairQueue.finish`."""

    questions: Mapping[bytes, Q]
    is_small: bool
    """True if the batch was filled from small flows."""


class FairQueue(Generic[Q]):
    """The flows of one engine. A flow that fits one turn is small; small and large never share a batch.

    Large flows can use the engine's whole concurrency. Small ones have a reserve on top of it, so a
    single sample does not wait behind another caller's thousands.
    """

    def __init__(
        self,
        capacity: Capacity,
        *,
        group: Callable[[Q], Hashable],
        tokens: Callable[[Q], int],
    ) -> None:
        self._capacity = capacity
        self._group = group
        self._tokens = tokens
        self.entries: dict[bytes, Entry[Q]] = {}
        """The questions that wait, by key."""
        self._small: list[Flow[Q]] = []
        self._large: list[Flow[Q]] = []
        self._numbers = count()
        self._virtual_time = 0.0
        """Questions served to a flow that has had an equal share since the queue was last empty."""
        self._reserved = max(1, capacity.concurrency // RESERVED_SHARE)
        self._running = 0
        self._running_small = 0

    def push(self, questions: Mapping[bytes, Q], deadline_s: float) -> Flow[Q]:
        """Queue the questions of one caller; a question that already waits joins both flows."""
        entries = [self._entry(key, question) for key, question in questions.items()]
        entries.reverse()
        # New and idle callers start at the current virtual time, so they gain no credit.
        fronts = [flows[0].served for flows in (self._small, self._large) if flows]
        self._virtual_time = max(self._virtual_time, min(fronts)) if fronts else 0.0
        flow = Flow(self._virtual_time, deadline_s, next(self._numbers), entries)
        if entries:
            heapq.heappush(self._small if len(entries) <= QUANTUM else self._large, flow)
        return flow

    def discard(self, flow: Flow[Q]) -> list[bytes]:
        """Empty a caller's flow; returns the keys of waiting questions that no other flow has."""
        abandoned = []
        for entry in flow.entries:
            entry.flows -= 1
            if not entry.flows and not entry.is_taken:
                del self.entries[entry.key]
                abandoned.append(entry.key)
        # A heap cannot remove from its middle, so the empty flow stays until its turn.
        flow.entries.clear()
        return abandoned

    def pop(self) -> Batch[Q] | None:
        """Take the next batch; None if nothing waits, or the engine is at its concurrency."""
        while self.entries and (flows := self._next_flows()) is not None:
            is_small = flows is self._small
            questions = self._take(flows)
            # Without questions, this heap held only discarded flows: look at the other one.
            if questions:
                self._running += 1
                self._running_small += is_small
                return Batch(questions, is_small)
        return None

    def submit(
        self, questions: Mapping[bytes, Q], deadline_s: float
    ) -> tuple[Flow[Q], list[Batch[Q]]]:
        """Queue the questions of one caller, and take the batches that can start now."""
        return self.push(questions, deadline_s), self.startable()

    def startable(self) -> list[Batch[Q]]:
        """Take batches until the engine is at its concurrency, or nothing waits."""
        return list(iter(self.pop, None))

    def finish(self, batch: Batch[Q]) -> None:
        """Count a batch as running no more."""
        self._running -= 1
        self._running_small -= batch.is_small

    def _entry(self, key: bytes, question: Q) -> Entry[Q]:
        entry = self.entries.get(key)
        if entry is None:
            entry = self.entries[key] = Entry(key, question)
        entry.flows += 1
        return entry

    def _next_flows(self) -> list[Flow[Q]] | None:
        """Return the heap that fills the next batch; None if the engine has room for neither."""
        has_room = self._running < self._capacity.concurrency
        has_reserved = self._running_small < self._reserved
        if self._small and (has_room or has_reserved):
            is_first = not self._large or self._small[0].served <= self._large[0].served
            return self._small if is_first or not has_room else self._large
        return self._large if self._large and has_room else None

    def _take(self, flows: list[Flow[Q]]) -> dict[bytes, Q]:
        """Fill a batch turn by turn; questions of one group are placed side by side."""
        taken: dict[bytes, Q] = {}
        tokens = 0
        while flows and not self._is_full(len(taken), tokens):
            flow = heapq.heappop(flows)
            turn = 0
            while flow.entries and turn < QUANTUM and not self._is_full(len(taken), tokens):
                entry = flow.entries.pop()
                # Another flow may have put the shared question into a batch already.
                if not entry.is_taken:
                    entry.is_taken = True
                    taken[entry.key] = self.entries.pop(entry.key).question
                    if self._capacity.tokens is not None:
                        tokens += self._tokens(entry.question)
                    turn += 1
            flow.served += turn
            self._virtual_time += turn / (1 + len(self._small) + len(self._large))
            if flow.entries:
                heapq.heappush(flows, flow)
        if not self.entries:
            self._small.clear()
            self._large.clear()
        return self._by_group(taken) if len(taken) > 1 else taken

    def _is_full(self, questions: int, tokens: int) -> bool:
        limit = self._capacity.tokens
        return questions >= self._capacity.batch or (limit is not None and tokens >= limit)

    def _by_group(self, taken: dict[bytes, Q]) -> dict[bytes, Q]:
        groups: dict[Hashable, list[bytes]] = {}
        for key, question in taken.items():
            groups.setdefault(self._group(question), []).append(key)
        return {key: taken[key] for keys in groups.values() for key in keys}
