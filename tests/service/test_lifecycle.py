"""How a process leaves: readiness first, then no new requests, then the end."""

import pytest

from medreward.errors import NotReady
from medreward.lifecycle import Lifecycle


class Clock:
    """Time as the test has it."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        """Give the time."""
        return self.now_s


class Process:
    """A process that drains, with its clock and its requests in flight."""

    def __init__(self, delay_s: float = 10.0, longest_s: float = 60.0) -> None:
        self.clock = Clock()
        self.in_flight = 0
        self.lifecycle = Lifecycle(
            delay_s=delay_s, longest_s=longest_s, in_flight=lambda: self.in_flight, clock=self.clock
        )


def test_nothing_is_refused_before_it_begins() -> None:
    """A process that nobody told to leave serves."""
    lifecycle = Process().lifecycle

    lifecycle.check_admits()

    assert (lifecycle.has_begun, lifecycle.status) == (False, "serving")


def test_it_takes_requests_until_those_who_send_them_can_know() -> None:
    """It says that it leaves at once, and refuses from the end of the delay on."""
    process = Process(delay_s=10.0)
    process.lifecycle.begin()
    assert process.lifecycle.has_begun

    process.clock.now_s += 9.9
    process.lifecycle.check_admits()

    process.clock.now_s += 0.2
    with pytest.raises(NotReady, match="another replica"):
        process.lifecycle.check_admits()


def test_it_is_done_when_the_delay_is_over_and_nothing_is_in_flight() -> None:
    """Neither alone is enough: within the delay more may come."""
    process = Process(delay_s=10.0)
    process.lifecycle.begin()
    told = [process.lifecycle.status]

    process.clock.now_s += 11.0
    process.in_flight = 2
    told.append(process.lifecycle.status)

    process.in_flight = 0
    told.append(process.lifecycle.status)

    assert told == ["draining", "draining", "drained"]


def test_beginning_again_does_not_prolong_it() -> None:
    """A drain by request and the signal that follows are one."""
    process = Process(delay_s=10.0)
    process.lifecycle.begin()
    process.clock.now_s += 8.0
    process.lifecycle.begin()
    process.clock.now_s += 3.0

    with pytest.raises(NotReady):
        process.lifecycle.check_admits()


def test_it_can_be_taken_back() -> None:
    """Then it serves as if nobody had asked."""
    process = Process(delay_s=0.0)
    process.lifecycle.begin()
    process.lifecycle.take_back()

    process.lifecycle.check_admits()

    assert process.lifecycle.status == "serving"


def test_waiting_has_an_end() -> None:
    """Requests that are never answered do not keep a process for ever."""
    stuck = Lifecycle(delay_s=0.0, longest_s=0.1, in_flight=lambda: 1)
    stuck.begin()

    assert stuck.wait() is False
    assert stuck.in_flight == 1
