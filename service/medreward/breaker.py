"""A circuit breaker: what does not answer is left alone for a while, then tried with one request."""

import time
from collections.abc import Callable


class Breaker:
    """Opens after several failures in a row; each failed try makes the next pause longer.

    Used as: ask only if `allows()`, then say `succeeded()` or `failed()`, and `gave_up()` where
    the try was cancelled and tells nothing. All in one thread.
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
        """When the next try is due; None while all is well."""
        self._is_trying = False

    @property
    def is_open(self) -> bool:
        """Whether it failed too often, and has not answered since."""
        return self._try_from_s is not None

    @property
    def left_s(self) -> float:
        """Seconds until the next try is due."""
        if self._try_from_s is None:
            return 0.0
        return max(0.0, self._try_from_s - self._clock())

    def allows(self) -> bool:
        """Tell whether to ask now; while open, one caller gets a yes when the pause is over."""
        if not self.is_open:
            return True
        if self._is_trying or self.left_s > 0:
            return False
        self._is_trying = True
        return True

    def succeeded(self) -> None:
        """Note an answer: all is well again."""
        self._failures = 0
        self._pause_s = self._first_pause_s
        self._try_from_s = None
        self._is_trying = False

    def failed(self) -> None:
        """Note a failure."""
        self._failures += 1
        if self.is_open and self._is_trying:
            self._pause_s = min(2 * self._pause_s, self._longest_pause_s)
        if self._failures >= self._failures_to_open and (not self.is_open or self._is_trying):
            self._try_from_s = self._clock() + self._pause_s
        self._is_trying = False

    def gave_up(self) -> None:
        """Note that a try told nothing; the next caller may try."""
        self._is_trying = False
