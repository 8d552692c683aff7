"""Error rates of a judge, from the service's own files and by the service's own arithmetic."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward.engines import calibration as of_service
from medreward.engines.judges.calibrated import CalibratedJudge
from medreward.engines.judges.scripted import ScriptedJudge
from medreward.engines.templates import load_templates
from medreward_eval.errors import BadData
from medreward_eval.records import Vote
from medreward_eval.statistics.intervals import Calibrated
from medreward_eval.statistics.judge_calibration import (
    Entry,
    family_of,
    judge_errors,
    load_calibration,
)

TEMPLATES = load_templates()
SHA = TEMPLATES["equivalence"].sha
JUDGE = ScriptedJudge().identity
PROBABILITY = st.floats(0, 1)


def entry(**changes: Any) -> of_service.Entry:
    """An entry as the service fits it: of 100 right answers 90 got a YES, of 100 wrong ones 20."""
    told = {
        "engine": JUDGE,
        "template": "equivalence",
        "template_sha": SHA,
        "temperature": 2.0,
        "threshold": 0.5,
        "no_below": 0.4,
        "yes_above": 0.8,
        "labels": 200,
        "positives": 100,
        "labels_sha256": "0" * 64,
        "alpha_fpr": 0.02,
        "alpha_fnr": 0.1,
        "confidence": 0.95,
        "ece_before": 0.2,
        "ece_after": 0.02,
        "sensitivity": 0.9,
        "specificity": 0.8,
        "abstained": 0.1,
    }
    return of_service.Entry.model_validate(told | changes)


def calibration_file(path: Path, *entries: of_service.Entry) -> Path:
    """A file as `medreward calibrate` writes it."""
    content = of_service.Calibration(entries=entries)
    path.write_text(content.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return path


def header(judge: str = JUDGE, sha: str = SHA) -> dict[str, Any]:
    """The header of a file of grades."""
    return {
        "medreward_eval": "grades",
        "judges": {"equivalence": judge},
        "templates": {"equivalence": f"sha256:{sha}"},
    }


def service_judge(*entries: of_service.Entry, abstains: bool = False) -> CalibratedJudge:
    """A judge that the service reads by a calibration."""
    return CalibratedJudge(
        ScriptedJudge(),
        of_service.Calibration(entries=entries),
        templates=TEMPLATES,
        abstains=abstains,
        must_be_known=False,
        timeout_s=60.0,
    )


@given(
    st.text()
    | st.integers(0, 12).flatmap(
        lambda words: st.lists(st.sampled_from(["lung", "5", "mg"]), min_size=words, max_size=words)
    ).map(" ".join)
)  # fmt: skip
def test_the_family_of_a_reference_is_the_services(reference: str) -> None:
    """Both sides sort references alike, or one would be corrected by another's errors."""
    assert family_of(reference) == of_service.family_of(reference)


@given(
    p_yes=PROBABILITY,
    threshold=PROBABILITY,
    temperature=st.floats(1e-3, 1e3),
    bias=st.floats(-1e3, 1e3),
)
def test_a_raw_probability_is_read_as_the_service_would(
    p_yes: float, threshold: float, temperature: float, bias: float
) -> None:
    """The map and the threshold say YES to the same answers, however steep the map is."""
    fitted = entry(
        temperature=temperature, bias=bias, threshold=threshold, no_below=0.0, yes_above=1.0
    )
    ours = Entry.model_validate(fitted.model_dump())

    assert ours.raw_says_yes(p_yes) == (fitted.calibrated(p_yes) > threshold)


def test_a_file_of_the_services_is_read_with_its_fingerprint(tmp_path: Path) -> None:
    """Whatever the order of its entries, it has the name that the service shows of it."""
    entries = [entry(family=family) for family in ("short", "any", "quantity")]
    path = calibration_file(tmp_path / "calibration.json", *entries)
    read, digest = load_calibration(path)

    assert [one.family for one in read] == ["short", "any", "quantity"]
    assert digest == of_service.Calibration(entries=tuple(entries[::-1])).fingerprint


def test_rates_are_read_as_the_counts_behind_them(tmp_path: Path) -> None:
    """The counts are needed for the uncertainty of the rates."""
    fitted = entry(labels=60, positives=20, sensitivity=17 / 20, specificity=33 / 40)
    (read,), _ = load_calibration(calibration_file(tmp_path / "calibration.json", fitted))

    assert read.calibrated == Calibrated(17, 20, 33, 40)


def test_entries_are_found_by_family_and_else_that_of_any(tmp_path: Path) -> None:
    """The service looks them up in the same way."""
    entries = [entry(family="quantity", labels=150), entry(family="any")]
    path = calibration_file(tmp_path / "calibration.json", *entries)
    errors = judge_errors(path, [header()])

    for reference in ("5 mg", "left lung", "a passage of many words that goes on and on"):
        theirs = of_service.Calibration(entries=tuple(entries)).find(
            JUDGE, "equivalence", of_service.family_of(reference)
        )
        ours = errors.entry_of(reference)
        assert ours is not None
        assert theirs is not None
        assert (ours.family, ours.labels) == (theirs.family, theirs.labels)


def test_a_judge_that_was_not_calibrated_is_read_by_the_map(tmp_path: Path) -> None:
    """Its P(YES) is moved first: halved here on the scale of logits, and down by 1."""
    path = calibration_file(tmp_path / "calibration.json", entry(bias=-1.0))
    errors = judge_errors(path, [header()])
    known = errors.entry_of("left lung")

    assert known is not None
    assert not errors.is_applied
    # The logit of 0.88 is just below 2, and that of 0.881 just above.
    assert errors.says_yes(known, Vote("as_written", "YES", 0.88)) is False
    assert errors.says_yes(known, Vote("as_written", "YES", 0.881)) is True


def test_a_judge_that_was_calibrated_has_said_it_already(tmp_path: Path) -> None:
    """Its verdict counts: a P(YES) that was rounded may be on the threshold's other side."""
    fitted = entry(threshold=0.6180339, no_below=0.6180339)
    path = calibration_file(tmp_path / "calibration.json", fitted)
    errors = judge_errors(path, [header(service_judge(fitted).identity)])
    known = errors.entry_of("left lung")

    assert known is not None
    assert errors.is_applied
    assert errors.says_yes(known, Vote("as_written", "NO", 0.618034)) is False
    assert errors.says_yes(known, Vote("as_written", "YES", 0.618034)) is True


OTHER = "is not a calibration of what graded the file"


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ([header(judge="another")], OTHER),
        ([header(sha="f" * 64)], OTHER),
        ([header(judge=service_judge(entry(labels=150)).identity)], OTHER),
        ([header(), header(judge="another")], "of several judges"),
        ([{"judges": {"report": "j"}, "templates": {"report": "sha256:r"}}], "no verdicts"),
        (
            [header(service_judge(entry(), abstains=True).identity)],
            "abstained.*MEDREWARD_ABSTAIN=false",
        ),
    ],
    ids=["judge", "template", "calibration", "several judges", "reports alone", "abstained"],
)
def test_grades_that_a_calibration_is_not_of_are_not_corrected(
    headers: list[dict[str, Any]], words: str, tmp_path: Path
) -> None:
    """Its errors were counted of one judge, one wording and every verdict; the message says which."""
    path = calibration_file(tmp_path / "calibration.json", entry())

    with pytest.raises(BadData, match=words):
        judge_errors(path, headers)


def test_runs_of_one_judge_are_corrected(tmp_path: Path) -> None:
    """They may be mixed in something else, such as their votes."""
    path = calibration_file(tmp_path / "calibration.json", entry())

    assert judge_errors(path, [header(), {**header(), "votes": 1}]).entries


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("", "the file"),
        ("patient John Doe", "the file"),
        ('{"entries": [{"engine": "patient John Doe"}]}', "entries.0.template"),
        ('{"entries": "patient John Doe"}', "entries"),
        ("[]", "the file"),
    ],
)
def test_anything_but_a_calibration_is_refused(content: str, where: str, tmp_path: Path) -> None:
    """The field is named, and nothing of what stands there."""
    path = tmp_path / "other.json"
    path.write_text(content, encoding="utf-8")

    with pytest.raises(BadData, match=rf"other\.json is no calibration \(see {where}\)") as told:
        load_calibration(path)
    assert "John Doe" not in str(told.value)


def test_a_calibration_that_is_not_there_is_told(tmp_path: Path) -> None:
    """With its name and what the system says."""
    with pytest.raises(BadData, match=r"away\.json cannot be read: No such file"):
        load_calibration(tmp_path / "away.json")
