"""The circuit breaker: when it asks, when it waits, and who gets to try."""

from medreward.breaker import Breaker


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now_s


def broken(clock: Clock) -> Breaker:
    """A breaker that has just opened."""
    breaker = Breaker(failures=2, pause_s=1.0, longest_pause_s=3.0, clock=clock)
    breaker.failed()
    breaker.failed()
    return breaker


def test_it_asks_until_enough_failures_in_a_row() -> None:
    """An answer in between starts the count anew."""
    breaker = Breaker(failures=2, pause_s=1.0, longest_pause_s=3.0, clock=Clock())

    for _ in range(3):
        breaker.failed()
        assert breaker.allows()
        breaker.succeeded()
    breaker.failed()
    breaker.failed()

    assert breaker.is_open
    assert not breaker.allows()


def test_one_caller_tries_when_the_pause_is_over() -> None:
    """The others wait for what becomes of that try."""
    clock = Clock()
    breaker = broken(clock)

    assert not breaker.allows()
    clock.now_s += 1.0

    assert [breaker.allows(), breaker.allows()] == [True, False]


def test_an_answer_closes_it() -> None:
    """After one good try everyone asks again."""
    clock = Clock()
    breaker = broken(clock)
    clock.now_s += 1.0
    assert breaker.allows()

    breaker.succeeded()

    assert not breaker.is_open
    assert [breaker.allows(), breaker.allows()] == [True, True]


def test_each_failed_try_doubles_the_pause_up_to_the_longest() -> None:
    """What stays broken is tried ever more seldom, but never given up."""
    clock = Clock()
    breaker = broken(clock)
    pauses = []

    for _ in range(3):
        pauses.append(breaker.left_s)
        clock.now_s += breaker.left_s
        assert breaker.allows()
        breaker.failed()
    pauses.append(breaker.left_s)

    assert pauses == [1.0, 2.0, 3.0, 3.0]


def test_late_failures_of_requests_sent_before_it_opened_change_nothing() -> None:
    """They tell of the same outage, not of another one."""
    clock = Clock()
    breaker = broken(clock)
    clock.now_s += 0.5

    breaker.failed()

    assert breaker.left_s == 0.5


def test_a_try_that_tells_nothing_leaves_the_next_caller_to_try() -> None:
    """A cancelled try must not keep the breaker open for good."""
    clock = Clock()
    breaker = broken(clock)
    clock.now_s += 1.0
    assert breaker.allows()

    breaker.gave_up()

    assert breaker.allows()
