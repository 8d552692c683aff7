"""Start-time fair queueing: the questions of many callers become batches. No event loop, no clock.

Callers take turns by the number of questions they have had so far, so thousands of questions of one
do not delay the few of another (Goyal, Vin and Cheng 1996, with one unit of service a question).
"""

import heapq
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, TypeVar

from medreward.engines.capacity import Capacity

Q = TypeVar("Q")

QUANTUM = 8
"""Questions of one flow in a batch before the next flow's turn; about a group."""

RESERVED_SHARE = 8
"""One batch for each eight of an engine's concurrency is added to it, for small flows alone."""


class Entry(Generic[Q]):
    """A question that waits, in the flow of each caller who wants it."""

    __slots__ = ("flows", "is_taken", "key", "question")

    def __init__(self, key: bytes, question: Q) -> None:
        self.key = key
        self.question = question
        self.flows = 0
        self.is_taken = False


@dataclass(order=True, slots=True)
class Flow(Generic[Q]):
    """The waiting questions of one caller, in its order among the other callers."""

    served: float
    """Questions taken, counted from the virtual time at which the flow began."""
    deadline_s: float
    number: int
    entries: list[Entry[Q]] = field(compare=False)
    """In reverse: the next one is popped from the end."""


@dataclass(frozen=True, slots=True)
class Batch(Generic[Q]):
    """Questions for the engine, by key; it has a place there until it is finished."""

    questions: Mapping[bytes, Q]
    is_small: bool
    """Whether its flows are small ones."""


class FairQueue(Generic[Q]):
    """Flows of one engine. A flow is small if it fits one turn, and then shares no batch with large ones.

    Large flows may use the engine's whole capacity. Small ones have a little more, so that a single
    sample waits neither for a place nor for its neighbours' thousands.
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
        """What a flow has been served that had its share ever since the queue was last empty."""
        self._reserved = max(1, capacity.concurrency // RESERVED_SHARE)
        self._running = 0
        self._running_small = 0

    def push(self, questions: Mapping[bytes, Q], deadline_s: float) -> Flow[Q]:
        """Queue the questions of one caller; a question that waits already is in both flows."""
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
        """Remove a caller's flow; returns the keys of questions that are in no flow any more."""
        abandoned = []
        for entry in flow.entries:
            entry.flows -= 1
            if not entry.flows and not entry.is_taken:
                del self.entries[entry.key]
                abandoned.append(entry.key)
        # The flow itself stays in its heap until its turn, as an empty one.
        flow.entries.clear()
        return abandoned

    def pop(self) -> Batch[Q] | None:
        """Take the next batch; None if nothing waits, or the engine has no place for it."""
        while self.entries and (flows := self._next_flows()) is not None:
            is_small = flows is self._small
            questions = self._take(flows)
            # Discarded flows may have been all that there was on this side.
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
        """Take every batch for which the engine has a place."""
        return list(iter(self.pop, None))

    def finish(self, batch: Batch[Q]) -> None:
        """Free the place of a batch."""
        self._running -= 1
        self._running_small -= batch.is_small

    def _entry(self, key: bytes, question: Q) -> Entry[Q]:
        entry = self.entries.get(key)
        if entry is None:
            entry = self.entries[key] = Entry(key, question)
        entry.flows += 1
        return entry

    def _next_flows(self) -> list[Flow[Q]] | None:
        """Return the heap whose batch is next; None if there is no room for either's."""
        has_room = self._running < self._capacity.concurrency
        has_reserved = self._running_small < self._reserved
        if self._small and (has_room or has_reserved):
            is_first = not self._large or self._small[0].served <= self._large[0].served
            return self._small if is_first or not has_room else self._large
        return self._large if self._large and has_room else None

    def _take(self, flows: list[Flow[Q]]) -> dict[bytes, Q]:
        """Fill a batch turn by turn; questions of a group become neighbours."""
        taken: dict[bytes, Q] = {}
        tokens = 0
        while flows and not self._is_full(len(taken), tokens):
            flow = heapq.heappop(flows)
            turn = 0
            while flow.entries and turn < QUANTUM and not self._is_full(len(taken), tokens):
                entry = flow.entries.pop()
                # Another flow's turn may have come first.
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
