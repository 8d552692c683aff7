"""Distributions: what Prometheus reads of them is what prometheus-client's own histogram says."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from medreward.telemetry.histogram import MOST_NEW, Distribution

BUCKETS = (0.0, 0.1, 0.5, 1.0)


def lines(registry: CollectorRegistry) -> list[str]:
    """What is exposed, but for the time a metric was made."""
    told = generate_latest(registry).decode().splitlines()
    return sorted(line for line in told if "_created" not in line)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.lists(st.sampled_from((0, 0.25, 0.5, 2.5))))))
def test_it_counts_as_the_library_does(observed: list[tuple[str, list[float]]]) -> None:
    """Buckets, sums and counts are the same, however the values came."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    distribution = Distribution("reward", "Rewards.", ["recipe"], BUCKETS)
    ours.register(distribution)
    histogram = Histogram("reward", "Rewards.", ["recipe"], buckets=BUCKETS, registry=theirs)

    for recipe, values in observed:
        distribution.observe((recipe,), values)
        for value in values:
            histogram.labels(recipe).observe(value)
        if not values:
            histogram.labels(recipe)

    assert lines(ours) == lines(theirs)


def test_values_of_any_number_take_little_memory() -> None:
    """Values that are all different are put into their buckets before they are too many."""
    distribution = Distribution("reward", "Rewards.", [], BUCKETS)

    for number in range(20 * MOST_NEW):
        distribution.observe((), [number / 1e6])

    (metric,) = distribution.collect()
    assert sum(s.value for s in metric.samples if s.name == "reward_count") == 20 * MOST_NEW
