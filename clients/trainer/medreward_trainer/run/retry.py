"""Waits with a time limit, which report their reason and end if the run is asked to stop."""

import time
from collections.abc import Callable

from medreward_client.pauses import Pauses
from medreward_trainer.errors import Stopped

PAUSES = Pauses(first_s=1.0, longest_s=60.0)
SLICE_S = 0.2
"""Seconds between two checks for a request to stop."""

Say = Callable[[str], None]
IsStopping = Callable[[], bool]


class Backoff:
    """A series of pauses, each twice as long as the last, up to a total of *seconds*."""

    def __init__(
        self, seconds: float, *, say: Say, is_stopping: IsStopping, pauses: Pauses = PAUSES
    ) -> None:
        self._ends_at = time.monotonic() + seconds
        self._say, self._is_stopping, self._pauses = say, is_stopping, pauses
        self._doublings = 0

    def wait(self, why: str) -> bool:
        """Report *why*, and pause; return False if no time is left. The last pause is cut short.

        Raises:
            Stopped: the run was asked to stop.
        """
        left_s = self._ends_at - time.monotonic()
        if left_s <= 0:
            return False
        seconds = min(self._pauses.doubled(self._doublings), left_s)
        self._say(f"{why}; again in {seconds:.0f} s")
        resumes_at = time.monotonic() + seconds
        while (rest_s := resumes_at - time.monotonic()) > 0:
            if self._is_stopping():
                raise Stopped("asked to stop")
            time.sleep(min(SLICE_S, rest_s))
        self._doublings += 1
        return True
