"""How many replicas a run needs: the formulas, and a simulation that they have to agree with."""

import heapq
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward.cli.size import (
    Rates,
    Step,
    backlog_s,
    read_metrics,
    replicas_for,
    size,
)

AMOUNTS = st.floats(1, 1e5)
RATES = st.floats(1, 1e4)
TIMES = st.floats(0.1, 1e3)
SHARES = st.floats(0.05, 1)


@given(AMOUNTS, RATES, st.floats(0, 1e3), TIMES, SHARES)
def test_the_replicas_suffice_and_one_less_would_not(
    work: float, rate: float, spread_s: float, seconds: float, utilisation: float
) -> None:
    """They do the work in the time at that share of their rate, and are the fewest that do."""
    replicas = replicas_for(work, rate, spread_s, seconds, utilisation)
    each = rate * utilisation * (spread_s + seconds)

    assert replicas * each >= work * (1 - 1e-6)
    assert replicas == 1 or (replicas - 1) * each < work


@given(AMOUNTS, AMOUNTS, RATES, TIMES, SHARES)
def test_more_work_never_needs_fewer(
    one: float, other: float, rate: float, seconds: float, utilisation: float
) -> None:
    """And more time never more."""
    less, more = sorted((one, other))

    assert replicas_for(less, rate, 0, seconds, utilisation) <= replicas_for(
        more, rate, 0, seconds, utilisation
    )
    assert replicas_for(more, rate, 0, 2 * seconds, utilisation) <= replicas_for(
        more, rate, 0, seconds, utilisation
    )


STEPS = st.builds(
    Step, st.integers(1, 20_000), st.floats(0, 3), st.floats(0, 3), TIMES, st.floats(0, 300)
)


@given(STEPS, st.builds(Rates, RATES, RATES))
def test_a_step_is_scored_in_its_time(step: Step, rates: Rates) -> None:
    """Where no single batch takes longer, what comes out keeps what was asked for."""
    result = size(step, rates)

    assert result.step_s <= step.seconds * (1 + 1e-6)
    assert all(share <= 1 + 1e-6 for share in result.utilisation.values())


@pytest.mark.parametrize(
    ("rate", "seconds", "utilisation"), [(0, 1, 0.8), (1, 0, 0.8), (1, 1, 0), (math.nan, 1, 1)]
)
def test_what_no_number_of_replicas_does_is_refused(
    rate: float, seconds: float, utilisation: float
) -> None:
    """Rather than an infinite number of them."""
    with pytest.raises(ValueError, match="above 0"):
        replicas_for(1, rate, 0, seconds, utilisation)


def simulated_s(questions: int, servers: int, batch: int, batch_s: float, spread_s: float) -> float:
    """Seconds from the last arrival to the last answer, of servers that take a batch at a time."""
    arrivals = [spread_s * (n + 1) / questions for n in range(questions)]
    free = [0.0] * servers
    heapq.heapify(free)
    done_s, waiting = 0.0, 0
    while waiting < questions:
        start_s = max(heapq.heappop(free), arrivals[waiting])
        taken = 0
        while taken < batch and waiting < questions and arrivals[waiting] <= start_s:
            taken, waiting = taken + 1, waiting + 1
        # A part of a batch takes its part of the time, and a fifth of it whatever its size.
        took_s = batch_s * (0.2 + 0.8 * taken / batch)
        done_s = max(done_s, start_s + took_s)
        heapq.heappush(free, start_s + took_s)
    return done_s - spread_s


@pytest.mark.parametrize("servers", [1, 3, 8])
@pytest.mark.parametrize("spread_s", [0.0, 5.0, 20.0])
@pytest.mark.parametrize("questions", [2048, 8192])
def test_a_simulation_agrees(questions: int, servers: int, spread_s: float) -> None:
    """Batches one by one, on servers one by one: the fluid model is within a fifth and two batches."""
    batch, batch_s = 64, 0.25
    told = backlog_s(questions, servers * batch / batch_s, spread_s, batch_s)
    seen = simulated_s(questions, servers, batch, batch_s, spread_s)

    assert told <= seen * 1.2 + 2 * batch_s
    assert seen <= told * 1.2 + 2 * batch_s


EXPOSITION = """\
# TYPE medreward_batch_size histogram
medreward_batch_size_bucket{role="judge",le="+Inf"} 10
medreward_batch_size_sum{role="judge"} 600
medreward_batch_size_count{role="judge"} 10
medreward_batch_size_sum{role="embedder"} 900
medreward_batch_size_count{role="embedder"} 10
# TYPE medreward_backend_request_duration_seconds histogram
medreward_backend_request_duration_seconds_bucket{role="judge",le="+Inf"} 10
medreward_backend_request_duration_seconds_sum{role="judge"} 3
medreward_backend_request_duration_seconds_count{role="judge"} 10
# TYPE medreward_samples counter
medreward_samples_total{status="scored"} 900
medreward_samples_total{status="unscored"} 100
"""


def test_rates_are_read_off_metrics() -> None:
    """Questions by the time of their batches, and work by sample; what is not there is None."""
    measured = read_metrics(EXPOSITION)

    assert measured.judge_rate == 200
    assert measured.judge_batch_s == pytest.approx(0.3)
    assert measured.questions_per_sample == pytest.approx(0.6)
    assert measured.texts_per_sample == pytest.approx(0.9)
    assert measured.embed_rate is None
    assert read_metrics(EXPOSITION, batches_at_once=4).judge_rate == 800
    assert read_metrics("").judge_rate is None
