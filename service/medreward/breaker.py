"""A circuit breaker: a failing server gets no requests for a pause, then one trial request."""

import time
from collections.abc import Callable


class Breaker:
    """Opens after several failures in a row; each failed trial doubles the next pause.

    A caller sends its request only if `allows()`, then calls `succeeded()` or `failed()`, or
    `gave_up()` if the request was cancelled without an outcome. Not thread-safe.
    """

    def __init__(
        self,
        *,
        failures: int,
        pause_s: float,
        longest_pause_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._failures_to_open = failures
        self._first_pause_s = pause_s
        self._longest_pause_s = longest_pause_s
        self._clock = clock
        self._failures = 0
        self._pause_s = pause_s
        self._try_from_s: float | None = None
        """Time from which the next trial is allowed; None while the breaker is closed."""
        self._is_trying = False

    @property
    def is_open(self) -> bool:
        """True from too many failures until the next success."""
        return self._try_from_s is not None

    @property
    def left_s(self) -> float:
        """Seconds until the next trial is allowed."""
        if self._try_from_s is None:
            return 0.0
        return max(0.0, self._try_from_s - self._clock())

    def allows(self) -> bool:
        """Return whether a request may be sent; while open, one trial is allowed after each pause."""
        if not self.is_open:
            return True
        if self._is_trying or self.left_s > 0:
            return False
        self._is_trying = True
        return True

    def succeeded(self) -> None:
        """Record a success: the breaker closes."""
        self._failures = 0
        self._pause_s = self._first_pause_s
        self._try_from_s = None
        self._is_trying = False

    def failed(self) -> None:
        """Record a failure; the breaker opens after several, or stays open after a trial."""
        self._failures += 1
        # Requests that were sent before it opened may fail later: they do not prolong the pause.
        if self.is_open and self._is_trying:
            self._pause_s = min(2 * self._pause_s, self._longest_pause_s)
        if self._failures >= self._failures_to_open and (not self.is_open or self._is_trying):
            self._try_from_s = self._clock() + self._pause_s
        self._is_trying = False

    def gave_up(self) -> None:
        """Record a trial without an outcome; the next caller may make another."""
        self._is_trying = False
