"""The lifecycle of a process: its drain before the end, and the watchdog of its event loop.

A draining process fails its readiness probe at once. It accepts requests for a delay, in which load
balancers notice the failed probe, and refuses them afterwards.
"""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Literal

from medreward.errors import NotReady

POLL_S = 0.05
BEAT_S = 1.0
LATE_S = 5.0
"""If the event loop makes no turn for so long, readiness fails until it does."""


class Lifecycle:
    """The drain state of this process.

    Several threads read and set it: the event loop, the admin port and the signal handler.
    """

    def __init__(
        self,
        *,
        delay_s: float,
        longest_s: float,
        in_flight: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.longest_s = longest_s
        self._delay_s = delay_s
        self._in_flight = in_flight
        self._clock = clock
        self._refuses_from_s = math.inf
        self.unanswered = 0
        """Requests whose reply the caller has not read to its end."""
        self.has_begun = False
        """True from the start of a drain: readiness fails, and responses close their connections."""

    @property
    def status(self) -> Literal["serving", "draining", "drained"]:
        """The stage of the drain, as the admin port reports it."""
        if not self.has_begun:
            return "serving"
        return "drained" if self.is_done else "draining"

    @property
    def in_flight(self) -> int:
        """Requests that are not answered yet."""
        return max(self._in_flight(), self.unanswered)

    @property
    def is_done(self) -> bool:
        """True if requests are refused, and none is in flight."""
        return self._refuses() and self.in_flight == 0

    def begin(self) -> None:
        """Start a drain; if one has started already, its delay is not prolonged."""
        if not self.has_begun:
            self.has_begun = True
            self._refuses_from_s = self._clock() + self._delay_s

    def take_back(self) -> None:
        """Cancel the drain."""
        self._refuses_from_s = math.inf
        self.has_begun = False

    def check_admits(self) -> None:
        """Check that the drain still admits requests.

        Raises:
            NotReady: the delay is over; another replica accepts the request.
        """
        if self._refuses():
            raise NotReady("the service is draining; send it again, to another replica or later")

    def wait(self, longest_s: float | None = None) -> bool:
        """Block until the drain is done, cancelled, or out of time; returns whether it is done."""
        # The delay comes first, and requests are accepted in it: it is added to the longest wait.
        give_up_s = self._clock() + self._delay_s + (longest_s or self.longest_s)
        while self.has_begun and not self.is_done and self._clock() < give_up_s:
            time.sleep(POLL_S)
        return self.is_done

    def _refuses(self) -> bool:
        return self._clock() >= self._refuses_from_s


class EventLoopWatchdog:
    """Records the turns of the event loop, so that another thread can detect a stall."""

    def __init__(self) -> None:
        self.last_s = time.monotonic()

    @property
    def silent_s(self) -> float:
        """Seconds since the last turn."""
        return time.monotonic() - self.last_s

    @property
    def is_late(self) -> bool:
        """True if requests would wait for seconds."""
        return self.silent_s > LATE_S

    async def run(self) -> None:
        """Record a turn each second, until cancelled."""
        while True:
            self.last_s = time.monotonic()
            await asyncio.sleep(BEAT_S)
