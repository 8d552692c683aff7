"""The speed of an engine, measured while questions wait for it."""

import time
from collections import deque
from collections.abc import Callable

ROUNDS = 16
"""Batches that the speed is measured from, times those that run concurrently."""
MEMORY_S = 3600.0
"""Older batches do not count; the next step of a training job follows sooner."""


class Throughput:
    """Counts the questions that an engine answers in a second.

    Only times with a backlog count: otherwise the engine is idle, or its batches are not full, and
    it would look slow.
    """

    def __init__(self, concurrency: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._batches: deque[tuple[float, float, int]] = deque(maxlen=ROUNDS * concurrency)
        """End, seconds since the batch before it, and answers of each batch."""
        self._since_s: float | None = None
        """End of the last batch, or begin of the backlog; None without a backlog."""

    @property
    def per_s(self) -> float | None:
        """Questions answered in a second; None before anything was measured."""
        oldest_s = self._clock() - MEMORY_S
        recent = [batch for batch in self._batches if batch[0] >= oldest_s]
        seconds = sum(seconds for _, seconds, _ in recent)
        return sum(answers for *_, answers in recent) / seconds if seconds else None

    def note_backlog(self, *, is_waiting: bool) -> None:
        """Note whether questions are left that no batch has taken."""
        if not is_waiting:
            self._since_s = None
        elif self._since_s is None:
            self._since_s = self._clock()

    def note_answers(self, answers: int) -> None:
        """Note the end of a batch; one that failed says nothing about speed."""
        if self._since_s is None:
            return
        now_s = self._clock()
        if answers:
            self._batches.append((now_s, now_s - self._since_s, answers))
        self._since_s = now_s
