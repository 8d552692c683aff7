"""Quantities: the same in other units, and what is another value."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from medreward.guards.measures import alone, measured, number
from medreward.guards.quantities import quantities
from tests.service.guards.pairs import pair, rule


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("0.5 g", "500 mg"),
        ("1 L", "1000 mL"),
        ("500 mcg", "500 µg"),
        ("500 ug", "0.5 mg"),
        ("1,000 mg", "1 g"),
        ("0,5 mg", "0.5 mg"),
        ("98.6 °F", "37 °C"),
        ("5 x 10^9/L", "5 × 10⁹/L"),
        ("5 x 10^9/L", "5000 cells/µL"),
        ("5 mg/dL", "50 mg/L"),
        ("100 mg/kg/day", "100 mg/kg per day"),
        ("72 bpm", "72 beats/min"),
        ("aspirin 5 mg twice daily", "aspirin 5 mg bid"),
        ("every 8 hours", "t.i.d."),
        ("q12h", "2 times a day"),
        ("3-5 cm", "3 to 5 cm"),
        ("4 cm", "3–5 cm"),
        ("about 5.2 cm", "5 cm"),
        ("< 5 cm", "3 cm"),
        ("5 mg", "aspirin"),
        ("5 mg", "5 mL"),
        ("IL-2", "IL-6"),
        ("CD25", "CD20"),
        ("12 %", "12 percent"),
    ],
)
def test_what_may_be_the_same_is_not_vetoed(answer: str, reference: str) -> None:
    """Units, ranges, bounds and names make no difference by themselves."""
    assert rule(quantities, answer, reference) is None
    assert rule(quantities, reference, answer) is None


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("50 mg", "5 mg", "quantity.value"),
        ("5 mcg", "5 mg", "quantity.unit"),
        ("2 weeks", "2 days", "quantity.unit"),
        ("5 x 10^8/L", "5 x 10⁹/L", "quantity.value"),
        ("8-9 cm", "3–5 cm", "quantity.value"),
        ("> 5 cm", "< 5 cm", "quantity.value"),
        ("5 mg qid", "5 mg bid", "quantity.value"),
        ("5 mg once daily", "5 mg twice daily", "quantity.value"),
        ("15 %", "1.5 %", "quantity.value"),
        ("a 54-year-old man", "a 45-year-old man", "quantity.value"),
    ],
)
def test_another_value_or_unit_is_vetoed(answer: str, reference: str, expected: str) -> None:
    """The same dimension with a value that neither text shares is a contrast."""
    assert rule(quantities, answer, reference) == expected


def test_the_spans_are_of_the_texts_as_they_came() -> None:
    """A veto shows both quantities, whatever folding did to the texts."""
    answer, reference = "ﬁnding: 5 × 10⁸/L", "5 × 10⁹/L, ﬁnding"
    veto = quantities(pair(answer, reference))
    assert veto is not None
    assert answer[slice(*veto.span)] == "5 × 10⁸/L"
    assert veto.reference_span is not None
    assert reference[slice(*veto.reference_span)] == "5 × 10⁹/L"


@pytest.mark.parametrize(
    ("digits", "value"),
    [
        ("1000", 1000),
        ("1,000", 1000),
        ("1,000,000", 1_000_000),
        ("1.000.000", 1_000_000),
        ("0,5", 0.5),
        ("0,500", 0.5),
        ("1,5", 1.5),
        ("1.500", 1.5),
        ("1.234,5", 1234.5),
        ("1,234.5", 1234.5),
    ],
)
def test_commas_are_read_as_people_write_them(digits: str, value: float) -> None:
    """A comma is decimal where it cannot part thousands."""
    assert number(digits) == value


@given(
    st.decimals("0.001", 999, places=3),
    st.sampled_from([("g", "mg", 1000), ("L", "mL", 1000), ("cm", "mm", 10), ("weeks", "days", 7)]),
)
def test_every_conversion_agrees(value: object, units: tuple[str, str, int]) -> None:
    """A quantity and itself in a smaller unit agree, and another value does not."""
    large, small, ratio = units
    shown = float(str(value)) * ratio
    assert rule(quantities, f"{value} {large}", f"{shown:.6f} {small}") is None
    assert rule(quantities, f"{value} {large}", f"{shown * 1.5:.6f} {small}") is not None


@example("5 mg/0 ml")
@given(st.text(alphabet="0123456789.,-/^x% mgldq<>~about to", max_size=120))
def test_anything_can_be_read(text: str) -> None:
    """Whatever stands in a text, its quantities are finite or bounds, in order."""
    for quantity in measured(text):
        assert not math.isnan(quantity.low)
        assert quantity.low <= quantity.high
    alone(text)


@pytest.mark.parametrize(
    "piece", ["1", "1.", "1 ", "1-", "< ", "5 mg/", "about ", "q", "5 x 10^9 "]
)
def test_long_texts_are_read(piece: str) -> None:
    """A text at the limit of 16 KiB is read like any other."""
    assert rule(quantities, (piece * 16_384)[:16_384], "aspirin") is None
