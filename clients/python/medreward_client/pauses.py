"""Pauses between tries: they grow, and they are bounded."""

from dataclasses import dataclass

MOST_DOUBLINGS = 16
"""More would reach the longest pause anyhow, and then overflow."""


@dataclass(frozen=True, slots=True)
class Pauses:
    """The bounds of the pauses between tries, in seconds."""

    first_s: float
    longest_s: float

    def doubled(self, times: int) -> float:
        """Return the first pause, doubled so many times, or the longest pause if that is shorter."""
        return min(self.first_s * 2.0 ** min(times, MOST_DOUBLINGS), self.longest_s)
