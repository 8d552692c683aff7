"""Pauses between attempts: they double up to a bound, and a server may ask for one."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

MOST_DOUBLINGS = 16
"""More would exceed any longest pause, and in the end overflow."""


@dataclass(frozen=True, slots=True)
class Pauses:
    """The bounds of the pauses between attempts, in seconds."""

    first_s: float
    longest_s: float

    def doubled(self, times: int) -> float:
        """Return the first pause, doubled so many times, or the longest pause if that is shorter."""
        return min(self.first_s * 2.0 ** min(times, MOST_DOUBLINGS), self.longest_s)


def retry_after_s(headers: Mapping[str, str], *, otherwise: float) -> float:
    """Parse Retry-After in seconds; *otherwise* if it is absent, a date, or not a pause.

    A date is ignored, since clocks differ. `headers` must ignore case.
    """
    try:
        wait_s = float(headers.get("retry-after", ""))
    except ValueError:
        return otherwise
    return wait_s if 0.0 <= wait_s < math.inf else otherwise
