"""`medreward audit`: a service's report card, written whole or not at all."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from medreward.app import create_app
from medreward.engines.judges.scripted import ScriptedJudge
from medreward.errors import Problem, ProblemKind
from tests.service.cli.conftest import PROGRAM, WARM_UP, Run, outage, settings
from tests.support.engines import TroubledJudge, hang
from tests.support.process import Program
from tests.support.service import served
from tests.support.wait import wait_until

QUICK = ("--suite", "attack", "--suite", "benign", "--limit", "2")


def test_the_card_is_a_page_and_its_numbers(run: Run, url: str, tmp_path: Path) -> None:
    """Both tell what was audited, and the terminal tells it in short."""
    page, numbers = tmp_path / "card.html", tmp_path / "card.json"
    told = run(
        *("audit", "--url", url, *QUICK, "--out", page, "--json", numbers, "--date", "2026-01-31")
    )
    found = json.loads(numbers.read_text("utf-8"))

    assert told.code == 0
    assert "Structural attacks" in told.stdout
    assert "The report card is in" in told.stdout
    assert "2026-01-31" in page.read_text("utf-8")
    assert found["audited"]["date"] == "2026-01-31"
    assert found["audited"]["recipe"] == "medix-r1"
    assert {stratum["suite"] for stratum in found["strata"]} == {"attack", "benign"}
    assert all(stratum["cases"] <= 2 for stratum in found["strata"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "card.html",
        "card.json",
        "strict.toml",
    ]


@pytest.mark.parametrize(("verdict", "share"), [("YES", 1.0), ("NO", 0.0)])
def test_the_judge_and_the_recipe_are_measured_apart(
    run: Run, tmp_path: Path, verdict: str, share: float
) -> None:
    """Of a judge that always says the same, the attacks that no rule stops get just that."""
    judge = ScriptedJudge({WARM_UP: "YES"}, default=verdict)
    with served(create_app(settings(), judge=judge)) as url:
        found = _numbers(run, url, tmp_path, "--recipe", "medix-r1")
    by_class = {stratum["stratum"]: stratum for stratum in found["strata"]}

    assert by_class["A03"]["yes"]["share"] == share
    assert by_class["A04"]["yes"]["share"] == share
    # The rules of /judge stop what praises itself or orders the grader about.
    assert by_class["A05"]["graded"]["hits"] <= by_class["A05"]["yes"]["hits"] * 0.1
    assert found["audited"]["rules"].startswith("grading:sha256:")
    # The published recipe refuses what holds a colon, whatever the judge says.
    assert by_class["A04"]["paid"]["hits"] <= by_class["A04"]["yes"]["hits"]


def test_another_recipe_is_asked_in_its_own_form(run: Run, url: str, tmp_path: Path) -> None:
    """Its tags and signals are the service's to tell."""
    found = _numbers(run, url, tmp_path, "--recipe", "strict")

    assert found["audited"]["recipe"] == "strict"
    assert all(stratum["unscored"] == {} for stratum in found["strata"])


def test_bars_decide_only_where_that_is_asked_for(run: Run, tmp_path: Path) -> None:
    """A report is no failure; with --strict a missed bar is, and the card is written all the same."""
    judge = ScriptedJudge({WARM_UP: "YES"}, default="YES")
    out = tmp_path / "card.html"
    with served(create_app(settings(), judge=judge)) as url:
        lenient = run("audit", "--url", url, *QUICK, "--out", out)
        out.unlink()
        strict = run("audit", "--url", url, *QUICK, "--out", out, "--strict")

    assert lenient.code == 0
    assert strict.code == 1
    assert "--strict: not every bar is met: " in strict.stderr
    assert "Free-text attacks (missed)" in strict.stderr
    assert out.exists()


def test_answers_have_figures_and_no_bar(run: Run, url: str, tmp_path: Path) -> None:
    """A strict audit of them alone has nothing to fail by."""
    page, file = tmp_path / "card.html", tmp_path / "card.json"
    quick = ("--suite", "answer", "--limit", "2", "--strict")
    told = run("audit", "--url", url, *quick, "--out", page, "--json", file)
    found = json.loads(file.read_text("utf-8"))

    assert (told.code, found["bars"]) == (0, [])
    assert "measures" not in told.stdout
    assert {one["suite"] for one in found["contrasts"]} == {"answer"}
    assert all(not one["held_out"] for kind in found["failures"] for one in kind["worst"])


def test_an_outage_is_no_defence(run: Run, tmp_path: Path) -> None:
    """What no engine answered is lost, and the bars are not measured."""
    with served(outage()) as url:
        found = _numbers(run, url, tmp_path)
    status = {bar["name"]: bar["status"] for bar in found["bars"]}

    assert found["lost"]["hits"] > 0
    assert status["Free-text attacks"] == "unknown"


def test_an_abstention_is_not_paid(run: Run, tmp_path: Path) -> None:
    """The service declined to score: that is an outcome."""
    problem = Problem(ProblemKind.JUDGE_ABSTAINED, "judge: too close to call")
    judge = ScriptedJudge({WARM_UP: "YES"}, default=problem)
    with served(create_app(settings(), judge=judge)) as url:
        found = _numbers(run, url, tmp_path)
    (stratum,) = [one for one in found["strata"] if one["stratum"] == "A03"]

    assert found["lost"]["hits"] == 0
    assert stratum["unscored"] == {"judge_abstained": stratum["cases"]}
    assert stratum["paid"]["share"] == 0.0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--suite", "exam"), "--suite: no suite 'exam'; choose from attack, benign, pair, answer"),
        (("--out", "no/such/card.html"), "--out: no folder no/such; make it first"),
        (("--recipe", "exam"), "no recipe 'exam' here; choose from medix-r1"),
    ],
)
def test_misuse_is_told_before_anything_is_asked(
    run: Run, url: str, tmp_path: Path, arguments: tuple[str, ...], reason: str
) -> None:
    """And nothing is written."""
    out = () if "--out" in arguments else ("--out", str(tmp_path / "card.html"))
    told = run("audit", "--url", url, "--suite", "attack", "--limit", "1", *arguments, *out)

    assert told.code == 2
    assert reason in told.stderr.replace("\n", " ")
    assert not (tmp_path / "card.html").exists()


def test_an_interrupted_audit_writes_nothing(tmp_path: Path) -> None:
    """Half of the cases are not a report card; one that is there stays as it was."""
    out = tmp_path / "card.html"
    out.write_text("the last one", "utf-8")
    with served(create_app(settings(), judge=TroubledJudge(hang, after=21, batch=1))) as url:
        options = ("--url", url, *QUICK, "--batch", "2", "--out", str(out))
        with Program([*PROGRAM, "audit", *options], os.environ) as audit:
            audit.spawn()
            wait_until(lambda: "judging" in audit.stderr)
            code = audit.stop(signal.SIGINT)

    assert code == 130
    assert "interrupted" in audit.stderr
    assert out.read_text("utf-8") == "the last one"


def _numbers(run: Run, url: str, folder: Path, *arguments: str) -> dict[str, Any]:
    file = folder / "card.json"
    page = folder / "card.html"
    run("audit", "--url", url, *QUICK, "--out", page, "--json", file, *arguments)
    found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return found
