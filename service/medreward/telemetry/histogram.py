"""A histogram that takes a whole request's values at once.

prometheus-client's takes them one by one, at more than a microsecond each; a step has thousands of
rewards with a dozen different values.
"""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

MOST_NEW = 1024


Observation = tuple["Distribution", tuple[str, ...], Iterable[float]]
"""Values for one distribution, under its labels."""


def observe_all(observations: Iterable[Observation]) -> None:
    """Add the values of one request to several distributions."""
    for distribution, labels, values in observations:
        distribution.observe(labels, values)


class Distribution(Collector):
    """Counts values into buckets, by labels."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], buckets: Sequence[float]
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = labels
        self._bounds = [*buckets, float("inf")]
        self._counts: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}
        self._new: dict[tuple[str, ...], Counter[float]] = {}
        """Values not yet put into their buckets, each with how often it was seen."""
        self._lock = threading.Lock()
        """The admin port looks from another thread."""

    def observe(self, labels: tuple[str, ...], values: Iterable[float]) -> None:
        """Add *values* under *labels*."""
        with self._lock:
            new = self._new.get(labels)
            if new is None:
                new = self._new[labels] = Counter()
            new.update(values)
            if len(new) > MOST_NEW:
                self._sort_in(labels)

    def _sort_in(self, labels: tuple[str, ...]) -> None:
        counts = self._counts.setdefault(labels, [0] * len(self._bounds))
        for value, number in self._new.pop(labels, Counter()).items():
            counts[bisect_left(self._bounds, value)] += number
            self._sums[labels] = self._sums.get(labels, 0.0) + value * number

    def collect(self) -> Iterable[Metric]:
        """Give what was counted, as the registry asks for it."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        with self._lock:
            for labels in list(self._new):
                self._sort_in(labels)
            for labels, counts in self._counts.items():
                bounds = map(floatToGoString, self._bounds)
                buckets = list(zip(bounds, map(float, accumulate(counts)), strict=True))
                family.add_metric(labels, buckets, self._sums.get(labels, 0.0))
        yield family

    def describe(self) -> Iterable[Metric]:
        """Name the metric, so that the registry refuses another of that name."""
        yield HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
