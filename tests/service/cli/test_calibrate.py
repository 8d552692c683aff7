"""`medreward calibrate`: from labelled answers to a file that a service can be given."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medreward.app import create_app
from medreward.engines.calibration import load_calibration
from medreward.engines.judge import Judgement
from medreward.engines.judges.scripted import ScriptedJudge
from medreward.engines.templates import load_templates
from medreward.errors import Problem, ProblemKind
from tests.service.cli.conftest import PATIENT_TEXT, Run, settings
from tests.support.service import served

Write = Callable[..., Path]
Row = dict[str, Any]

NOWHERE = "http://127.0.0.1:9"
"""Nothing listens there: what is refused before it is asked was refused without it."""
SIGNS = 600
SURE = 8.0
"""How many times too large the judge's logits are, about."""
SAME = {"answer": "Left lower lobe", "reference": "left lower lobe", "equivalent": True}
LATE = Problem(ProblemKind.JUDGE_TIMEOUT, "judge: no answer in time")


def word(number: int) -> str:
    """A word of its own for each number, without a digit."""
    return "".join("bcdfghjk"[int(digit)] + "a" for digit in f"{number:o}")


def labelled_rows() -> list[Row]:
    """Answers of which half are right; two of three references are short, the others quantities."""
    return [
        {
            "answer": f"{word(number)} seen",
            "reference": f"{number} mg" if number % 3 == 0 else f"sign {word(number)}",
            "equivalent": number % 2 == 0,
        }
        for number in range(SIGNS)
    ]


def noisy_script(rows: Sequence[Row]) -> dict[tuple[str, str | None], Judgement | Problem]:
    """What a judge says who is right nine times in ten, and nearly always sure."""
    drawn = np.random.default_rng(0).standard_normal(len(rows))
    script: dict[tuple[str, str | None], Judgement | Problem] = {}
    for row, noise in zip(rows, drawn.tolist(), strict=True):
        p = float(1 / (1 + np.exp(-SURE * (noise + (1.3 if row["equivalent"] else -1.3)))))
        script[row["answer"], row["reference"]] = Judgement(("YES", "NO"), (p, 1 - p))
    return script


def judge_of(script: Mapping[tuple[str, str | None], Judgement | Problem]) -> ScriptedJudge:
    """A judge with a script."""
    return ScriptedJudge(dict(script))


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Labels enough to certify the usual rates."""
    return labelled_rows()


@pytest.fixture
def noisy(rows: list[Row]) -> Iterator[str]:
    """A service whose judge is too sure of itself."""
    with served(create_app(settings(), judge=judge_of(noisy_script(rows)))) as url:
        yield url


def test_labels_become_a_calibration(
    run: Run, noisy: str, rows: list[Row], jsonl: Write, tmp_path: Path
) -> None:
    """The file is for the judge and the template; what is gained, certified and lacking is shown."""
    out = tmp_path / "calibration.json"
    told = run("calibrate", jsonl(*rows), "--url", noisy, "--out", out)
    calibration = load_calibration(out)
    pool = calibration.entries[0]
    entry = calibration.find("scripted", "equivalence", "short")
    other = calibration.find("scripted", "equivalence", "quantity")

    assert told.code == 0, told.stderr
    assert [e.family for e in calibration.entries] == ["any", "short"]
    assert entry is not None
    assert entry.template_sha == load_templates()["equivalence"].sha
    assert entry.temperature > 2
    assert entry.ece_after < entry.ece_before
    assert entry.no_below <= entry.threshold <= entry.yes_above
    assert other is not None
    assert other.family == "any"
    for said in (
        f"sha256:{calibration.fingerprint[:12]}",
        f"{pool.ece_before:.3f} to {pool.ece_after:.3f}",
        f"{pool.abstained:.1%}",
        "at most 2.0% of the wrong ones get a YES and 10.0% of the right ones a NO",
        "labels       600 used",
        "quantity (200 labels) has no entry of its own: 100 wrong answers are labelled",
    ):
        assert said in told.stdout


def test_a_row_may_name_its_family(
    run: Run, noisy: str, rows: list[Row], jsonl: Write, tmp_path: Path
) -> None:
    """Else its reference tells."""
    out = tmp_path / "calibration.json"
    named = [row | {"family": "passage"} for row in rows]
    run("calibrate", jsonl(*named), "--url", noisy, "--out", out)

    assert [e.family for e in load_calibration(out).entries] == ["any", "passage"]


def test_labels_that_certify_nothing_write_nothing(
    run: Run, noisy: str, rows: list[Row], jsonl: Write, tmp_path: Path
) -> None:
    """It fails, and says how many labels would do."""
    out = tmp_path / "calibration.json"
    told = run("calibrate", jsonl(*rows[:100]), "--url", noisy, "--out", out)

    assert told.code == 1
    assert "short (66 labels) has no entry of its own: " in told.stdout
    assert "50 wrong answers are labelled, and 149 are the least that certify 0.02" in told.stderr
    assert not out.exists()


def test_a_larger_share_needs_fewer_labels(
    run: Run, noisy: str, rows: list[Row], jsonl: Write, tmp_path: Path
) -> None:
    """Both shares are options."""
    out = tmp_path / "calibration.json"
    told = run(
        "calibrate",
        *(jsonl(*rows[:200]), "--url", noisy, "--out", out),
        *("--alpha", "0.1", "--alpha-fnr", "0.2"),
    )
    (pool, *_) = load_calibration(out).entries

    assert told.code == 0
    assert (pool.alpha_fpr, pool.alpha_fnr) == (0.1, 0.2)


def test_what_has_no_probability_is_left_out_and_counted(
    run: Run, rows: list[Row], jsonl: Write, tmp_path: Path
) -> None:
    """Rules settle some, the judge fails at some, and some repeat another."""
    script = noisy_script(rows)
    script["failing", "reference"] = LATE
    more = [
        {"answer": "failing", "reference": "reference", "equivalent": True},
        {"answer": "equal", "reference": "equal", "equivalent": True},
        {"answer": " ", "reference": "equal", "equivalent": False},
        rows[0],
    ]
    with served(create_app(settings(), judge=judge_of(script))) as url:
        told = run("calibrate", jsonl(*rows, *more), "--url", url, "--out", tmp_path / "c.json")

    assert told.code == 0
    assert (
        "600 used, 2 left out that rules settle (exact 1, rule 1), 1 left out without a grade "
        "(judge_timeout 1), 1 left out that repeat another"
    ) in " ".join(told.stdout.split())


def test_without_any_probability_there_is_nothing_to_fit(
    run: Run, url: str, jsonl: Write, tmp_path: Path
) -> None:
    """It says what became of the lines."""
    file = jsonl({"answer": "equal", "reference": "equal", "equivalent": True})
    told = run("calibrate", file, "--url", url, "--out", tmp_path / "c.json")

    assert told.code == 1
    assert "the judge gave no P(YES): 0 used, 1 left out that rules settle (exact 1)" in told.stderr


@pytest.mark.parametrize(
    ("identity", "fix"),
    [
        ("scripted+calibration:0123456789ab", "set MEDREWARD_CALIBRATION=off"),
        ("beside[scripted+calibration:0123456789ab][other]", "set MEDREWARD_CALIBRATION=off"),
        ("cascade[scripted][other]", "name one with MEDREWARD_JUDGE"),
    ],
)
def test_a_judge_that_is_not_one_engine_as_it_comes_is_refused(
    run: Run, jsonl: Write, tmp_path: Path, identity: str, fix: str
) -> None:
    """No entry could be found for its P(YES); the setting that mends it is named."""
    out = tmp_path / "c.json"
    judge = ScriptedJudge()
    judge.identity = identity
    with served(create_app(settings(), judge=judge)) as url:
        told = run("calibrate", jsonl(SAME), "--url", url, "--out", out)

    assert told.code == 2
    assert fix in told.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("[]", 'not a JSON object, such as {"answer": "…", "reference": "…", "equivalent": true}'),
        ({"answer": PATIENT_TEXT, "equivalent": True}, "reference: required, but missing"),
        (SAME | {"equivalent": "yes"}, "equivalent: true or false; got a text"),
        (SAME | {"label": 1}, "label: unknown field; leave it out"),
        (SAME | {"family": "long"}, "family: Input should be 'quantity', 'short' or 'passage'"),
        (SAME | {"equivalent": False}, "equivalent: the same texts have the other label on line 1"),
    ],
)
def test_a_bad_line_is_named_by_number_and_field(
    run: Run, jsonl: Write, tmp_path: Path, row: object, reason: str
) -> None:
    """Before anything is sent, and without quoting it."""
    out = tmp_path / "c.json"
    told = run("calibrate", jsonl(SAME, row), "--url", NOWHERE, "--out", out)

    assert told.code == 2
    assert f"\n  line 2: {reason}" in told.stderr
    assert PATIENT_TEXT not in told.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--template", "rubric"], "--template: choose equivalence"),
        (["--out", "no-such-folder/c.json"], "--out: no folder no-such-folder; make it first"),
        (["--alpha", "0"], "Invalid value for '--alpha'"),
    ],
)
def test_a_wrong_option_is_refused_at_once(
    run: Run, jsonl: Write, options: list[str], reason: str
) -> None:
    """Nothing is sent."""
    told = run("calibrate", jsonl(SAME), "--url", NOWHERE, *options)

    assert told.code == 2
    assert reason in " ".join(told.stderr.replace("│", " ").split())


def test_a_file_that_is_no_calibration_is_not_overwritten(run: Run, jsonl: Write) -> None:
    """Such as the labels themselves."""
    labels = jsonl(SAME)
    told = run("calibrate", labels, "--url", NOWHERE, "--out", labels)

    assert told.code == 2
    assert f"calibration {labels}: " in told.stderr
    assert labels.read_bytes().startswith(b'{"answer"')


def test_entries_of_other_judges_stay_in_the_file(
    run: Run, noisy: str, rows: list[Row], jsonl: Write, tmp_path: Path
) -> None:
    """One file serves several; what it had of this judge is replaced."""
    out = tmp_path / "calibration.json"
    other = judge_of(noisy_script(rows))
    other.identity = "another@1"
    with served(create_app(settings(), judge=other)) as url:
        run("calibrate", jsonl(*rows), "--url", url, "--out", out)
    first = load_calibration(out).entries
    run("calibrate", jsonl(*rows), "--url", noisy, "--out", out)
    run("calibrate", jsonl(*rows), "--url", noisy, "--out", out)
    both = load_calibration(out).entries

    assert both[: len(first)] == first
    assert [entry.engine for entry in both] == ["another@1"] * len(first) + ["scripted"] * len(
        first
    )
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_without_a_url_a_service_is_started_for_the_while(
    run: Run, no_models: None, rows: list[Row], jsonl: Write, tmp_path: Path
) -> None:
    """A judge that finds no answer right cannot be calibrated, and that is said."""
    told = run("calibrate", jsonl(*rows[:400]), "--out", tmp_path / "c.json")

    assert told.code == 1
    assert "no right answer gets a YES" in told.stderr
