"""The speed of an engine, measured while questions wait for it."""

import pytest

from medreward.inference.throughput import MEMORY_S, ROUNDS, Throughput


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


def run(throughput: Throughput, clock: Clock, *batches: tuple[float, int]) -> None:
    """Run batches of so many seconds and answers one after the other, with a backlog before each."""
    for seconds, answers in batches:
        throughput.note_backlog(is_waiting=True)
        clock.now_s += seconds
        throughput.note_answers(answers)


def test_speed_is_answers_by_the_seconds_that_they_took(clock: Clock) -> None:
    """Before a batch has run, there is none."""
    throughput = Throughput(1, clock=clock)
    assert throughput.per_s is None

    run(throughput, clock, (8.0, 16), (8.0, 16))

    assert throughput.per_s == 2.0


def test_concurrent_batches_add_up(clock: Clock) -> None:
    """Four batches of 16 that end within the same 8 seconds are 8 answers a second."""
    throughput = Throughput(4, clock=clock)
    throughput.note_backlog(is_waiting=True)
    clock.now_s += 8.0
    for _ in range(4):
        throughput.note_answers(16)

    assert throughput.per_s == 8.0


def test_time_without_a_backlog_does_not_count(clock: Clock) -> None:
    """An engine that is idle, or asked one question at a time, is not slow."""
    throughput = Throughput(1, clock=clock)
    run(throughput, clock, (8.0, 16))
    throughput.note_backlog(is_waiting=False)
    clock.now_s += 100.0
    throughput.note_answers(1)

    assert throughput.per_s == 2.0


def test_a_failed_batch_is_not_counted(clock: Clock) -> None:
    """A server that refuses at once is not fast, and one that hangs has no speed."""
    throughput = Throughput(1, clock=clock)
    run(throughput, clock, (8.0, 16), (0.001, 0), (120.0, 0), (8.0, 16))

    assert throughput.per_s == 2.0


def test_a_slow_batch_is_forgotten_after_some_batches(clock: Clock) -> None:
    """A stall during the first batch makes the engine look slow for a while only."""
    throughput = Throughput(1, clock=clock)
    run(throughput, clock, (300.0, 16))
    slow = throughput.per_s
    run(throughput, clock, *[(8.0, 16)] * ROUNDS)

    assert slow is not None
    assert slow < 0.1
    assert throughput.per_s == 2.0


def test_an_idle_engine_is_forgotten_in_time(clock: Clock) -> None:
    """Where no batch follows, nothing is known after an hour, so nothing is refused."""
    throughput = Throughput(1, clock=clock)
    run(throughput, clock, (300.0, 16))
    clock.now_s += MEMORY_S + 1.0

    assert throughput.per_s is None
