"""The life of a process: whether its event loop turns, and how it drains before it ends.

A draining process fails its readiness probe at once, and takes requests until the balancers in
front of it have seen that; then it refuses them.
"""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Literal

from medreward.errors import NotReady

POLL_S = 0.05
BEAT_S = 1.0


class Lifecycle:
    """Whether this process is leaving, and whether it still takes requests.

    Read and set from several threads: the event loop's, the admin port's and the signal's.
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
        self.has_begun = False
        """True from the begin of a drain on: readiness fails, and connections are closed."""

    @property
    def status(self) -> Literal["serving", "draining", "drained"]:
        """How far it is."""
        if not self.has_begun:
            return "serving"
        return "drained" if self.is_done else "draining"

    @property
    def in_flight(self) -> int:
        """Requests that are not answered yet."""
        return self._in_flight()

    @property
    def is_done(self) -> bool:
        """Whether nothing more comes, and nothing is left to answer."""
        return self._refuses() and self.in_flight == 0

    def begin(self) -> None:
        """Say that this process leaves; where it has said so already, the time counts from then."""
        if not self.has_begun:
            self.has_begun = True
            self._refuses_from_s = self._clock() + self._delay_s

    def take_back(self) -> None:
        """Stay."""
        self._refuses_from_s = math.inf
        self.has_begun = False

    def check_admits(self) -> None:
        """Let a request pass.

        Raises:
            NotReady: this process takes no more; another does.
        """
        if self._refuses():
            raise NotReady("the service is draining; send it again, to another replica or later")

    def wait(self, longest_s: float | None = None) -> bool:
        """Block until it is done, it was taken back, or time is up; tells whether it is done."""
        give_up_s = self._clock() + self._delay_s + (longest_s or self.longest_s)
        while self.has_begun and not self.is_done and self._clock() < give_up_s:
            time.sleep(POLL_S)
        return self.is_done

    def _refuses(self) -> bool:
        return self._clock() >= self._refuses_from_s


class EventLoopWatchdog:
    """Notes each turn of the event loop, so that another thread can tell whether it stalls."""

    def __init__(self) -> None:
        self.last_s = time.monotonic()

    @property
    def silent_s(self) -> float:
        """Seconds since the last turn."""
        return time.monotonic() - self.last_s

    async def run(self) -> None:
        """Note a turn each second, until cancelled."""
        while True:
            self.last_s = time.monotonic()
            await asyncio.sleep(BEAT_S)
