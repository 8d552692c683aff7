"""`medreward check --exam`: the score of the configured judge, its faults, and the exit code."""

from collections.abc import Mapping
from typing import Protocol

import pytest

from medreward.app import create_app
from medreward.engines.judges.scripted import Line, ScriptedJudge
from medreward.errors import Problem, ProblemKind
from medreward.exam.result import exam_pairs
from tests.service.cli.conftest import ANSWERS, WARM_UP, Outcome, Run, settings
from tests.support.service import served

Script = Mapping[tuple[str, str | None], Line]

KEY: Script = {(pair.answer, pair.reference): pair.due for pair in exam_pairs("terms")}
"""The verdicts of a judge that gets every pair, of terms too."""


class Examine(Protocol):
    """Examines a judge that another process holds, with more settings of that process."""

    def __call__(self, judge: ScriptedJudge, /, **of_judge: str) -> Outcome:
        """Wait for the command to end."""
        ...


@pytest.fixture
def examine(run: Run, monkeypatch: pytest.MonkeyPatch) -> Examine:
    """`medreward check --exam` of a process that asks another one."""

    def examine(judge: ScriptedJudge, /, **of_judge: str) -> Outcome:
        with served(create_app(settings(role="judge", **of_judge), judge=judge)) as url:
            given = {"ROLE": "api", "JUDGE_URL": url, "EMBEDDER": "hashed"}
            for name, value in given.items():
                monkeypatch.setenv(f"MEDREWARD_{name}", value)
            monkeypatch.setenv("NO_PROXY", "*")
            return run("check", "--exam")

    return examine


def test_a_judge_that_gets_every_pair_passes_its_exam(examine: Examine) -> None:
    """The score is beside the floor, and no pair is shown."""
    told = examine(ScriptedJudge({WARM_UP: "YES", **KEY}))

    assert told.code == 0
    assert "✓ exam balanced accuracy 1.000" in " ".join(told.stdout.split())
    assert (
        "YES to 30 of 30 right answers, NO to 30 of 30 wrong ones: balanced accuracy 1.000; the "
        "floor is 0.8, with YES to at most 10% of the wrong answers and never to all of a kind\n"
    ) in told.stdout
    assert "The picture shows a cat." not in told.stdout


@pytest.mark.parametrize(
    ("verdict", "failed", "kept", "said"),
    [
        (
            "YES",
            "The picture shows a cat.",
            "Heart attack",
            "says YES to 30 of 30 wrong answers, such as an unrelated sentence, ",
        ),
        (
            "NO",
            "Heart attack",
            "The picture shows a cat.",
            "says NO to 30 of 30 right answers, such as the same term in a sent",
        ),
    ],
)
def test_a_judge_below_the_floor_fails_the_check(
    examine: Examine, verdict: str, failed: str, kept: str, said: str
) -> None:
    """The pairs that it fails are shown, and in words what it gets wrong."""
    told = examine(ScriptedJudge({WARM_UP: "YES"}, default=verdict))

    assert told.code == 1
    assert told.stderr.endswith("medreward: not as it should be: exam\n")
    assert failed in told.stdout
    assert kept not in told.stdout
    assert f"This judge {said}" in told.stdout
    assert "Choose another, such as a larger language model (docs/engines.md)." in told.stdout


def test_a_judge_that_errs_here_and_there_is_told_how_often(examine: Examine) -> None:
    """One wrong answer of each kind is over the limit, and no kind is wrong for the most part."""
    firsts = {pair.kind: pair for pair in reversed(exam_pairs("answers")) if pair.due == "NO"}
    errors: Script = {(pair.answer, pair.reference): "YES" for pair in firsts.values()}
    told = examine(ScriptedJudge({WARM_UP: "YES", **KEY, **errors}))

    assert told.code == 1
    assert "NO to 20 of 30 wrong ones: balanced accuracy 0.833" in told.stdout
    assert "This judge says YES to 10 of 30 wrong answers. Choose another" in told.stdout


def test_pairs_without_a_verdict_are_counted_apart(examine: Examine) -> None:
    """They are in no share; the check fails only if too few are left."""
    refusal = Problem(ProblemKind.JUDGE_REFUSED, "judge: no")
    some: Script = {(p.answer, p.reference): refusal for p in exam_pairs("answers")[:5]}
    told = examine(ScriptedJudge({WARM_UP: "YES", **KEY, **some}))

    assert told.code == 0
    assert "YES to 25 of 25 right answers, NO to 30 of 30 wrong ones, " in told.stdout
    assert "5 without a verdict (judge_refused 5): balanced accuracy 1.000" in told.stdout

    told = examine(ScriptedJudge({WARM_UP: "YES"}, default=refusal))

    assert told.code == 1
    assert "✗ exam no result" in " ".join(told.stdout.split())
    assert "(judge_refused 60): too few verdicts for a result\n" in told.stdout
    assert "Find out why the judge gives no verdict" in told.stdout


@pytest.mark.parametrize(
    ("arguments", "role", "said"),
    [
        (["--no-load"], "all", "--exam asks the judge, so it cannot be combined with --no-load"),
        ([], "embed", "--exam asks the judge, and a process with the role embed has none"),
    ],
)
@pytest.mark.usefixtures("no_models")
def test_an_exam_without_a_judge_is_a_wrong_use(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str], role: str, said: str
) -> None:
    """It ends with 2, and nothing is loaded."""
    monkeypatch.setenv("MEDREWARD_ROLE", role)
    told = run("check", "--exam", *arguments)

    assert told.code == 2
    assert told.stderr == f"medreward: {said}\n"


@pytest.mark.usefixtures("no_models")
def test_no_exam_is_taken_unless_it_is_asked_for(run: Run) -> None:
    """It costs judgements."""
    assert "exam" not in run("check").stdout.casefold()


@pytest.mark.usefixtures("no_models")
def test_a_command_with_a_service_of_its_own_takes_no_exam(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the setting: a judge that would fail scores a file."""
    monkeypatch.setenv("MEDREWARD_EXAM", "require")
    told = run("judge", ANSWERS)

    assert told.code == 0
    assert "exam" not in told.stderr


def test_a_judge_of_terms_is_held_to_terms(examine: Examine) -> None:
    """The whole answers are shown, and what it cannot read of them is told."""
    pairs = [pair for pair in exam_pairs("terms") if pair.scope == "terms"]
    terms: Script = {(pair.answer, pair.reference): pair.due for pair in pairs}
    verifier = ScriptedJudge({WARM_UP: "YES", **terms}, default="YES")
    told = examine(verifier, judge="cross_encoder", exam="on")

    assert told.code == 0
    assert "YES to 15 of 15 right answers, NO to 15 of 15 wrong ones: balanced acc" in told.stdout
    assert "The picture shows a cat." not in told.stdout
    assert (
        "It is a judge of terms. Of whole answers, which do not count, it says YES to 30 of 30 wrong "
        "answers, such as an unrelated sentence, another diagnosis in a sentence, "
    ) in told.stdout
