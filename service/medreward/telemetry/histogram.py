"""A histogram that observes all values of a request at once.

prometheus-client's histogram needs more than a microsecond for each value, and a training step has
thousands of rewards with about a dozen distinct values.
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
"""A distribution, its labels, and the values to add under them."""


def observe_all(observations: Iterable[Observation]) -> None:
    """Add the values of one request to several distributions."""
    for distribution, labels, values in observations:
        distribution.observe(labels, values)


class Distribution(Collector):
    """A histogram by labels, which sorts values into buckets only when it is read."""

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
        """Values that are not in a bucket yet, with their numbers."""
        self._lock = threading.Lock()
        """Held by readers too, since the admin port collects in another thread."""

    def observe(self, labels: tuple[str, ...], values: Iterable[float]) -> None:
        """Add *values* under *labels*."""
        with self._lock:
            new = self._new.get(labels)
            if new is None:
                new = self._new[labels] = Counter()
            new.update(values)
            # Bounds the memory if the values are nearly all distinct, and nothing scrapes.
            if len(new) > MOST_NEW:
                self._sort_in(labels)

    def _sort_in(self, labels: tuple[str, ...]) -> None:
        counts = self._counts.setdefault(labels, [0] * len(self._bounds))
        for value, number in self._new.pop(labels, Counter()).items():
            counts[bisect_left(self._bounds, value)] += number
            self._sums[labels] = self._sums.get(labels, 0.0) + value * number

    def collect(self) -> Iterable[Metric]:
        """Yield the buckets and sums by labels; the registry calls this for each scrape."""
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
        """Yield the metric without values, so that the registry can refuse a second of its name."""
        yield HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
