"""Detectors of unusual rises in a series of one number a step; pure arithmetic in constant memory.

Each detector estimates the noise of its series, and requires a multiple of it as well as a least
rise that matters: small batches are noisy and must not raise alerts. With these multiples, a clean
run of 500 steps raises an alert in less than 1 % of cases (tests/service/runs/test_runs.py).
"""

import math
from collections import deque
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

RISE: Final = 0.15
"""Least rise of a jump (MediX-R1's exploited recipes rose by 0.19 in seven steps)."""
WITHIN = 10
"""Steps within which a jump has to happen."""
SMOOTHED = 3
"""Steps over which a series is averaged."""
SIGMAS = 5.5
SMALLEST_NOISE = 0.003

EARLY, LATE = 10, 5
"""Steps at a run's beginning, and at its end, whose means a rise compares."""

CLIMB: Final = 0.03
"""Least rise of a climb above the old trend."""
CLIMB_SIGMAS = 4.25
CLIMBING = (10, 20)
"""Lengths of a climb, in steps, that are tested."""
BEFORE, LONGEST_BEFORE = 20, 100
"""Steps from which the old trend is estimated, at least and at most."""


class Crossing(NamedTuple):
    """A value that has reached its threshold."""

    value: float
    threshold: float


class Noise:
    """Standard deviation of a series around its trend, from the differences of neighbours."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._count = 0
        self._mean_square = 0.0

    def add(self, value: float) -> None:
        """Add the next value."""
        if self._last is not None:
            self._count += 1
            square = (value - self._last) ** 2
            # A plain mean of the first values, then an exponential one: the noise
            # changes with the policy, so old differences lose their weight.
            self._mean_square += (square - self._mean_square) / min(self._count, LONGEST_BEFORE)
        self._last = value

    @property
    def sigma(self) -> float:
        """Estimated standard deviation, increased if it is based on few values."""
        few = 1 + 3 / max(1, self._count)
        return few * max(SMALLEST_NOISE, math.sqrt(self._mean_square / 2))


class Jump:
    """Detects a rise of `RISE` within ten steps of a series that is smoothed over three."""

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=SMOOTHED)
        self._smooth: deque[float] = deque(maxlen=WITHIN + 1)
        self._noise = Noise()
        self._count = 0

    def add(self, value: float) -> Crossing | None:
        """Add the next step's value; return the crossing if it ends a jump."""
        self._last.append(value)
        self._smooth.append(sum(self._last) / SMOOTHED)
        self._noise.add(value)
        self._count += 1
        # The first steps only serve to estimate the noise.
        if self._count < WITHIN + SMOOTHED + 2:
            return None
        rise = self._smooth[-1] - min(self._smooth)
        if rise < RISE:
            return None
        threshold = max(RISE, SIGMAS * self._noise.sigma * math.sqrt(2 / SMOOTHED))
        return Crossing(rise, threshold) if rise >= threshold else None


class Climb:
    """Detects a series that has begun to rise faster than before.

    A line with a bend is fitted to the last steps, and the change of its slope is tested (Student's
    t; Hinkley, "Inference in two-phase regression", JASA 66, 1971), for two places of the bend. The
    reward of a policy that learns slows down; that of one that exploits its reward speeds up.
    """

    def __init__(self) -> None:
        self._values = np.zeros(LONGEST_BEFORE + CLIMBING[-1])
        self._count = 0

    def add(self, value: float) -> Crossing | None:
        """Add the next step's value; return the crossing if a climb is under way."""
        self._values[:-1] = self._values[1:]
        self._values[-1] = value
        self._count += 1
        for steps in CLIMBING:
            count = min(self._count, LONGEST_BEFORE + steps)
            if count >= BEFORE + steps and (crossing := _bend(self._values[-count:], steps)):
                return crossing
        return None


class _Fit(NamedTuple):
    """Orthonormal directions of a line and of the bend added to it, with the bend's length."""

    line: NDArray[np.float64]
    bend: NDArray[np.float64]
    length: float


@lru_cache(maxsize=256)
def _fit(count: int, steps: int) -> _Fit:
    time = np.arange(count, dtype=np.float64)
    bend = np.maximum(0.0, time - (count - 1 - steps))
    basis, triangle = np.linalg.qr(np.stack([np.ones(count), time, bend], axis=1))
    sign = math.copysign(1.0, triangle[2, 2])
    return _Fit(np.ascontiguousarray(basis[:, :2].T), basis[:, 2] * sign, sign * triangle[2, 2])


def _bend(values: NDArray[np.float64], steps: int) -> Crossing | None:
    """Test whether the slope rose *steps* ago."""
    fit, freedom = _fit(len(values), steps), len(values) - 3
    bent = float(fit.bend @ values)
    # The rise since the bend beyond the old slope.
    rise = bent / fit.length * steps
    if rise < CLIMB:
        return None
    centred = values - values.mean()
    along = fit.line @ centred
    left = float(centred @ centred - along @ along) - bent * bent
    sigma = max(SMALLEST_NOISE, math.sqrt(max(0.0, left) / freedom))
    sigmas = CLIMB_SIGMAS * (1 + 3 / freedom)
    threshold = max(CLIMB, sigmas * sigma / fit.length * steps)
    return Crossing(rise, threshold) if rise >= threshold else None


class Rise:
    """Detects a series that is higher than at the run's beginning."""

    def __init__(self) -> None:
        self._early: list[float] = []
        self._late: deque[float] = deque(maxlen=LATE)
        self._noise = Noise()

    def add(self, value: float) -> Crossing | None:
        """Add the next step's value; return the crossing if the last ones are higher than the first."""
        self._noise.add(value)
        if len(self._early) < EARLY:
            self._early.append(value)
            return None
        self._late.append(value)
        rise = sum(self._late) / LATE - sum(self._early) / EARLY
        if len(self._late) < LATE or rise < RISE:
            return None
        threshold = max(RISE, SIGMAS * self._noise.sigma * math.sqrt(1 / LATE + 1 / EARLY))
        return Crossing(rise, threshold) if rise >= threshold else None
