"""`medreward size`: the formula, a simulation that it has to agree with, and the command."""

import heapq
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward.cli.size import Step, backlog_s, replicas_for, size
from tests.service.cli.conftest import Run

WORK = st.floats(1, 1e5)
RATES = st.floats(1, 1e4)
TIMES = st.floats(0.1, 1e3)
SHARES = st.floats(0.05, 1)
STEPS = st.builds(
    Step, st.integers(1, 20_000), st.floats(0, 3), st.floats(0, 3), TIMES, st.floats(0, 300)
)
GIVEN = [
    "size",
    "--samples",
    "4096",
    "--seconds",
    "20",
    "--judge-rate",
    "100",
    "--embed-rate",
    "500",
]


@given(WORK, RATES, TIMES, SHARES)
def test_the_replicas_suffice_and_one_less_would_not(
    work: float, rate: float, seconds: float, utilisation: float
) -> None:
    """They do the work in the time at that share of their rate, and are the fewest that do."""
    replicas = replicas_for(work, rate, seconds, utilisation)
    each = rate * utilisation * seconds

    assert replicas * each >= work * (1 - 1e-6)
    assert replicas == 1 or (replicas - 1) * each < work


@given(STEPS, st.fixed_dictionaries({"judge": RATES, "embed": RATES, "api": RATES}))
def test_a_step_is_scored_in_its_time(step: Step, rates: dict[str, float]) -> None:
    """The replicas score the step within the seconds that were asked for."""
    result = size(step, rates)

    assert result.step_s <= step.seconds * (1 + 1e-6)
    assert all(share <= 1 + 1e-6 for share in result.utilisation.values())


@pytest.mark.parametrize(
    ("rate", "seconds", "utilisation"), [(0, 1, 0.8), (1, 0, 0.8), (1, 1, 0), (math.nan, 1, 1)]
)
def test_what_no_number_of_replicas_does_is_refused(
    rate: float, seconds: float, utilisation: float
) -> None:
    """An infinite number of replicas is no size."""
    with pytest.raises(ValueError, match="above 0"):
        replicas_for(1, rate, seconds, utilisation)


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
    """Servers that take batches one by one stay within a fifth and two batches of the fluid model."""
    batch, batch_s = 64, 0.25
    predicted = max(batch_s, backlog_s(questions, servers * batch / batch_s, spread_s))
    seen = simulated_s(questions, servers, batch, batch_s, spread_s)

    assert predicted <= seen * 1.2 + 2 * batch_s
    assert seen <= predicted * 1.2 + 2 * batch_s


def test_a_table_shows_the_replicas_and_what_binds(run: Run) -> None:
    """4,096 questions in 18 s at 80 % of 100 a second are three judges."""
    told = run(*GIVEN)

    assert told.code == 0
    rows = {line.split()[0]: line.split() for line in told.stdout.splitlines() if line.strip()}
    assert rows["judge"][1] == "3"
    assert rows["embed"][1] == "1"
    assert "the judge takes longest" in told.stdout


def test_json_has_the_same(run: Run) -> None:
    """Scripts read the figures of the table, and what they were worked out from."""
    told = json.loads(run(*GIVEN, "--json").stdout)

    assert told["replicas"] == {"judge": 3, "embed": 1, "api": 2}
    assert told["binds"] == "judge"
    assert told["step_s"] == pytest.approx(4096 / 300 + 4096 / 4000)
    assert told["rates"] == {"judge": 100, "embed": 500, "api": 2000}


@pytest.mark.parametrize("option", ["--judge-rate", "--embed-rate"])
def test_a_rate_is_never_made_up(run: Run, option: str) -> None:
    """A missing rate, or one of 0, is a misuse that names its option."""
    place = GIVEN.index(option)
    missing = run(*GIVEN[:place], *GIVEN[place + 2 :])
    nothing = run(*GIVEN, option, "0")

    assert (missing.code, nothing.code) == (2, 2)
    assert option in missing.stderr
    assert option in nothing.stderr
