"""Admission: what fits is let in, the rest is turned away at once, and everything is given back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward.admission import Admission, Deadline, Load
from medreward.errors import Overloaded, TooLarge

LIMITS = Load(requests=2, body_bytes=100, questions=10)


def test_a_permit_holds_what_it_took_until_the_reply() -> None:
    """Requests, bytes and samples count as in flight, and afterwards none do."""
    admission = Admission(LIMITS)

    with admission.permit() as permit:
        permit.take(Load(body_bytes=60))
        permit.take(Load(questions=4))
        assert admission.in_flight == Load(1, 60, 4)

    assert admission.in_flight == Load()


@pytest.mark.parametrize(
    ("held", "more"),
    [(Load(body_bytes=60), Load(body_bytes=41)), (Load(questions=8), Load(questions=3))],
)
def test_what_does_not_fit_beside_the_others_is_told_when_to_come_back(
    held: Load, more: Load
) -> None:
    """Overloaded carries the seconds after which to try again, and takes nothing."""
    admission = Admission(LIMITS)

    with admission.permit() as first, admission.permit() as second:
        first.take(held)
        with pytest.raises(Overloaded) as refusal:
            second.take(more)
        assert admission.in_flight == Load(2, held.body_bytes, held.questions)

    assert refusal.value.retry_after_s == 1.0, "nothing has drained yet"


@pytest.mark.parametrize(
    ("drained_in_s", "hint_s"), [(2.0, 1.0), (20.0, 10.0), (1e-9, 0.1), (3600.0, 1.0)]
)
def test_the_hint_when_to_come_back_follows_from_how_fast_things_go(
    drained_in_s: float, hint_s: float
) -> None:
    """Eight questions took so long, so four take half of it; an hour ago tells nothing."""
    now_s = 1000.0
    admission = Admission(LIMITS, clock=lambda: now_s)
    for _ in range(2):
        with admission.permit() as earlier:
            earlier.take(Load(questions=4))
    now_s += drained_in_s

    with admission.permit() as first, admission.permit() as second:
        first.take(Load(questions=8))
        with pytest.raises(Overloaded) as refusal:
            second.take(Load(questions=6))

    assert refusal.value.retry_after_s == pytest.approx(hint_s)


def test_one_request_too_many_is_turned_away() -> None:
    """The number of requests is bounded too."""
    admission = Admission(LIMITS)

    with admission.permit(), admission.permit(), pytest.raises(Overloaded), admission.permit():
        pass


def test_what_would_never_fit_is_too_large() -> None:
    """Coming back later would not help, so the caller is told to send less."""
    admission = Admission(LIMITS)

    with pytest.raises(TooLarge, match="at most 10"), admission.permit() as permit:
        permit.take(Load(questions=11))

    assert admission.in_flight == Load()


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 6)), max_size=20))
def test_nothing_is_lost_whatever_is_taken(loads: list[tuple[int, int]]) -> None:
    """In any order of takes and refusals, the limits hold and the end is empty."""
    admission = Admission(LIMITS)

    for body_bytes, samples in loads:
        try:
            with admission.permit() as permit:
                permit.take(Load(body_bytes=body_bytes))
                permit.take(Load(questions=samples))
                permit.take(Load(questions=samples))
                assert admission.in_flight.questions <= LIMITS.questions
        except (Overloaded, TooLarge):
            pass

    assert admission.in_flight == Load()


def test_a_deadline_never_has_less_than_no_time_left() -> None:
    """A deadline in the past has 0 seconds left."""
    assert Deadline.after(-5).left_s == 0.0
    assert 9 < Deadline.after(10).left_s <= 10


def test_those_who_are_turned_away_do_not_change_the_hint() -> None:
    """However many of them come again and again, it still follows from what was served."""
    now_s = 1000.0
    admission = Admission(LIMITS, clock=lambda: now_s)
    for _ in range(2):
        with admission.permit() as earlier:
            earlier.take(Load(questions=4))
    now_s += 20.0

    hints = []
    with admission.permit() as first:
        first.take(Load(questions=8))
        for _ in range(2000):
            with pytest.raises(Overloaded) as refusal, admission.permit() as second:
                second.take(Load(questions=6))
            hints.append(refusal.value.retry_after_s)

    assert set(hints) == {10.0}
