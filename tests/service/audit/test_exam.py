"""The exam of a judge: its pairs, its marks and its floor."""

import re
from collections import Counter
from collections.abc import Callable, Iterable

import pytest

from medreward.admission import Caller, Deadline
from medreward.audit.answers import labelled_answers
from medreward.audit.exam import ExamPair, ExamResult, Mark, exam_pairs, take_exam
from medreward.audit.figures import Rate
from medreward.engines.judge import Verdict
from medreward.engines.judges.scripted import Line, ScriptedJudge
from medreward.engines.supervisor import WARM_UP_TEXT
from medreward.errors import Problem, ProblemKind
from medreward.service import Service
from medreward.settings import Settings

PAIRS = exam_pairs()
SILENT = Problem(ProblemKind.JUDGE_TIMEOUT, "judge: too late")


def marked(verdict: Callable[[ExamPair], Verdict | None]) -> ExamResult:
    """The result of a judge with these verdicts; it is late if it has none."""
    verdicts = {pair: verdict(pair) for pair in PAIRS}
    late = ProblemKind.JUDGE_TIMEOUT
    return ExamResult(tuple(Mark(p, v, None if v else late) for p, v in verdicts.items()))


def wrong_about(pairs: Iterable[ExamPair]) -> ExamResult:
    """The result of a judge that is right about all other pairs."""
    misjudged = set(pairs)
    return marked(lambda pair: pair.due if pair not in misjudged else _other(pair.due))


def _other(verdict: Verdict) -> Verdict:
    return "NO" if verdict == "YES" else "YES"


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.casefold()))


def _shared(pair: ExamPair) -> float:
    reference = _words(pair.reference)
    return len(reference & _words(pair.answer)) / len(reference)


async def examined(judge: ScriptedJudge) -> ExamResult:
    """The result of a judge that is asked."""
    settings = Settings(judge="scripted", embedder="hashed", recipe="medix-r1")
    service = Service(settings, judge=judge)
    try:
        await service.load()
        return await take_exam(service.context, Caller(Deadline.after(60)))
    finally:
        await service.aclose()


def test_half_of_the_pairs_are_right() -> None:
    """Thirty right and thirty wrong ones, three of each kind."""
    assert Counter(pair.is_right for pair in PAIRS) == {True: 30, False: 30}
    assert set(Counter(pair.kind for pair in PAIRS).values()) == {3}


def test_no_pair_repeats_another_one_or_its_reference() -> None:
    """Sixty judgements are needed, and none is settled without the judge."""
    assert len({(pair.question, pair.reference, pair.answer) for pair in PAIRS}) == 60
    assert not [pair for pair in PAIRS if pair.reference.casefold() == pair.answer.casefold()]


def test_the_exam_shares_no_pair_with_the_development_set() -> None:
    """Rules and judges are tuned on those answers."""
    known = {(row.reference.casefold(), row.answer.casefold()) for row in labelled_answers()}

    assert not known & {(pair.reference.casefold(), pair.answer.casefold()) for pair in PAIRS}


@pytest.mark.parametrize("measure", [_shared, lambda pair: len(pair.answer)])
def test_neither_shared_words_nor_length_pass(measure: Callable[[ExamPair], float]) -> None:
    """With the best threshold, and either direction, the balanced accuracy stays below 0.7."""
    levels = sorted({measure(pair) for pair in PAIRS})
    best = max(
        marked(lambda pair: "YES" if (measure(pair) >= level) is more else "NO").balanced_accuracy  # noqa: B023 - called at once
        or 0.0
        for level in levels
        for more in (True, False)
    )

    assert best < 0.7


@pytest.mark.anyio
async def test_the_judge_is_asked_once_and_without_rules() -> None:
    """Each pair is one inquiry, with its question, in batches of the judge's capacity."""
    judge = ScriptedJudge(default="YES", batch=16)
    result = await examined(judge)
    warm_up, *batches = judge.batches

    assert len(warm_up) == 1
    assert [len(batch) for batch in batches] == [16, 16, 16, 12]
    asked = [(i.template.name, i.question, i.reference, i.answer) for b in batches for i in b]
    assert sorted(asked) == sorted(
        ("equivalence", pair.question, pair.reference, pair.answer) for pair in PAIRS
    )
    assert result == marked(lambda _: "YES")


@pytest.mark.anyio
async def test_a_problem_is_no_wrong_verdict() -> None:
    """A pair without a verdict keeps its problem, and is in no share."""
    script: dict[tuple[str, str | None], Line] = {(WARM_UP_TEXT, WARM_UP_TEXT): "YES"}
    script |= {(pair.answer, pair.reference): pair.due for pair in PAIRS[:40]}
    result = await examined(ScriptedJudge(script, default=SILENT))

    assert (result.right, result.wrong) == (Rate(30, 30), Rate(10, 10))
    assert result.unanswered == [ProblemKind.JUDGE_TIMEOUT] * 20
    assert result.failed == []


@pytest.mark.parametrize("verdict", ["YES", "NO"])
def test_a_constant_judge_fails(verdict: Verdict) -> None:
    """It is right about half of the pairs, so its balanced accuracy is that of chance."""
    result = marked(lambda _: verdict)

    assert result.balanced_accuracy == 0.5
    assert not result.is_passed


def test_a_judge_may_miss_some_right_answers() -> None:
    """Twelve of thirty cost a fifth of the balanced accuracy; one more is too many."""
    assert wrong_about(PAIRS[:12]).balanced_accuracy == pytest.approx(0.8)
    assert wrong_about(PAIRS[:12]).is_passed
    assert not wrong_about(PAIRS[:13]).is_passed


def test_three_wrong_answers_may_get_yes_unless_they_are_all_of_a_kind() -> None:
    """A whole kind is a hole that a policy finds."""
    wrong = PAIRS[30:]

    assert wrong_about(wrong[0:9:3]).is_passed
    assert not wrong_about(wrong[0:12:3]).is_passed
    assert not wrong_about(wrong[0:3]).is_passed


@pytest.mark.parametrize(("answered", "balanced"), [(15, 1.0), (14, None), (0, None)])
def test_too_few_verdicts_are_no_result(answered: int, balanced: float | None) -> None:
    """Half of the right and half of the wrong pairs need one."""
    kept = {*PAIRS[:30], *PAIRS[30 : 30 + answered]}
    result = marked(lambda pair: pair.due if pair in kept else None)

    assert result.balanced_accuracy == balanced
    assert result.is_passed is (balanced is not None)
