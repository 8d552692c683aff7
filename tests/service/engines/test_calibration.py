"""Calibration files: entries that are found, and files that are refused in words."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from medreward.engines.calibration import Calibration, family_of, load_calibration, rescaled
from medreward.errors import SetupError
from tests.support.calibration import FIELDS, entry

PATIENT_TEXT = "Mrs Roe, mass in the left lower lobe"

PROBABILITIES = st.floats(0, 1)
TEMPERATURES = st.floats(0.05, 20)
BIASES = st.floats(-5, 5)

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file."""

    def write(content: str) -> Path:
        path = tmp_path / "calibration.json"
        path.write_text(content, "utf-8")
        return path

    return write


@pytest.mark.parametrize(
    ("p", "temperature", "bias", "expected"),
    [
        (0.5, 1.0, 0.0, 0.5),
        (0.9, 1.0, 0.0, 0.9),
        (0.9, 2.0, 0.0, 0.75),  # the logit of 0.9 is log 9, and half of it is log 3
        (0.5, 1.0, math.log(3), 0.75),
        (0.0, 1.0, 0.0, 1e-6),
        (1.0, 1.0, 0.0, 1 - 1e-6),
    ],
)
def test_a_probability_is_moved_on_the_scale_of_its_logit(
    p: float, temperature: float, bias: float, expected: float
) -> None:
    """Values of pencil and paper; 0 and 1 are taken for a little less."""
    moved = entry(temperature=temperature, bias=bias).calibrated(p)

    assert moved == pytest.approx(expected, rel=1e-9)


@given(PROBABILITIES, PROBABILITIES, TEMPERATURES, BIASES)
@example(one=0.0, other=1.0, temperature=1e-300, bias=0.0)
@example(one=0.0, other=1.0, temperature=1e300, bias=0.0)
def test_a_greater_probability_never_stands_for_less(
    one: float, other: float, temperature: float, bias: float
) -> None:
    """So thresholds on either scale decide alike; however steep or flat the map, nothing overflows."""
    low, high = sorted((one, other))

    assert 0 <= rescaled(low, temperature, bias) <= rescaled(high, temperature, bias) <= 1


@pytest.mark.parametrize(
    ("reference", "family"),
    [
        ("5 mg", "quantity"),
        ("stage 2 disease of the left lower lobe with nodes on both sides", "quantity"),
        ("10⁹/L", "quantity"),
        ("٣ أيام", "quantity"),
        ("left lower lobe", "short"),
        ("", "short"),
        ("one two three four five six seven eight", "short"),
        ("one two three four five six seven eight nine", "passage"),
    ],
)
def test_a_reference_has_a_family(reference: str, family: str) -> None:
    """A digit makes it a quantity; else eight words are short."""
    assert family_of(reference) == family


def test_a_family_is_found_before_the_entry_for_any() -> None:
    """And the judge and template of another are not taken instead."""
    short, pool = entry(family="short"), entry()
    calibration = Calibration(entries=(pool, short))

    assert calibration.find("scripted", "match", "short") is short
    assert calibration.find("scripted", "match", "passage") is pool
    assert calibration.find("judge@2", "match", "short") is None
    assert calibration.find("scripted", "equivalence", "short") is None


def test_a_file_is_read_as_it_was_written(write: Write) -> None:
    """To the last bit of every number."""
    calibration = Calibration(
        entries=(entry(temperature=0.1 + 0.2, no_below=math.nextafter(0.2, 0)),)
    )
    read = load_calibration(write(calibration.model_dump_json(indent=2)))

    assert read == calibration
    assert read.fingerprint == calibration.fingerprint


def test_a_fingerprint_names_the_content() -> None:
    """Any number changes it, the order of the entries does not."""
    one, other = entry(), entry(family="short")
    both = Calibration(entries=(one, other))

    assert len(both.fingerprint) == 64
    assert both.fingerprint == Calibration(entries=(other, one)).fingerprint
    assert (
        both.fingerprint != Calibration(entries=(one, entry(family="short", bias=0.1))).fingerprint
    )


def test_new_entries_take_the_place_of_their_judges_old_ones() -> None:
    """All of that judge and template, so that none is left of an earlier set of labels."""
    old = Calibration(entries=(entry(), entry(family="short"), entry(engine="judge@2")))
    renewed = old.renewed([entry(bias=0.5)])

    assert renewed.entries == (entry(engine="judge@2"), entry(bias=0.5))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"temperature": 0}, "temperature"),
        ({"temperature": math.inf}, "temperature"),
        ({"bias": math.nan}, "bias"),
        ({"threshold": 0.1}, "must not descend"),
        ({"yes_above": 0.4}, "must not descend"),
        ({"yes_above": 1.1}, "yes_above"),
        ({"family": "long"}, "family"),
        ({"positives": 601}, "more positives than labels"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_an_entry_that_makes_no_sense_is_refused(change: dict[str, Any], told: str) -> None:
    """The field is named."""
    with pytest.raises(ValidationError, match=told):
        entry(**change)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (PATIENT_TEXT, "`the file`: Invalid JSON"),
        ('{"version": 2, "entries": []}', "`version`: Input should be 1"),
        (json.dumps({"entries": [{**FIELDS, "bias": PATIENT_TEXT}]}), "`entries.0.bias`: "),
        (json.dumps({"entries": [FIELDS, FIELDS]}), "`entries`: Value error, two entries have"),
        (json.dumps({"entries": [{**FIELDS, "threshold": 0.1}]}), "must not descend"),
    ],
)
def test_a_file_that_is_none_is_refused_by_field(write: Write, content: str, told: str) -> None:
    """The file, the field and the fix are named; what stands there is not repeated."""
    path = write(content)
    with pytest.raises(SetupError) as caught:
        load_calibration(path)

    assert str(caught.value).startswith(f"calibration {path}: ")
    assert told in str(caught.value)
    assert "write it anew with `medreward calibrate`" in str(caught.value)
    assert PATIENT_TEXT not in str(caught.value)
    with pytest.raises(SetupError, match=r"nowhere\.json: cannot be read"):
        load_calibration(path.with_name("nowhere.json"))
