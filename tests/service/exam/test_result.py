"""The exam of a judge: its pairs, its marks and its floor."""

import re
from collections import Counter
from collections.abc import Callable, Iterable

import pytest

from medreward.audit.answers import labelled_answers
from medreward.engines.judge import Verdict
from medreward.engines.status import ExamScope, JudgeExam
from medreward.errors import ProblemKind
from medreward.exam.result import ExamPair, ExamResult, Mark, exam_pairs, faults

PAIRS = exam_pairs("answers")
TERMS = [pair for pair in exam_pairs("terms") if pair.scope == "terms"]


def marked(
    verdict: Callable[[ExamPair], Verdict | None],
    scope: ExamScope = "answers",
    problem: ProblemKind = ProblemKind.JUDGE_TIMEOUT,
) -> ExamResult:
    """The result of a judge with these verdicts, and with a problem in place of those it lacks."""
    verdicts = {pair: verdict(pair) for pair in exam_pairs(scope)}
    marks = (Mark(p, v, None if v else problem) for p, v in verdicts.items())
    return ExamResult(scope, tuple(marks))


def wrong_about(pairs: Iterable[ExamPair]) -> ExamResult:
    """The result of a judge that is right about all other pairs."""
    return marked(_wrong_about(pairs))


def _wrong_about(pairs: Iterable[ExamPair]) -> Callable[[ExamPair], Verdict]:
    misjudged = set(pairs)
    return lambda pair: pair.due if pair not in misjudged else _other(pair.due)


def _other(verdict: Verdict) -> Verdict:
    return "NO" if verdict == "YES" else "YES"


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.casefold()))


def _shared(pair: ExamPair) -> float:
    reference = _words(pair.reference)
    return len(reference & _words(pair.answer)) / len(reference)


def test_half_of_the_pairs_are_right() -> None:
    """Thirty right and thirty wrong answers, and half as many terms, three of each kind."""
    assert Counter(pair.due for pair in PAIRS) == {"YES": 30, "NO": 30}
    assert Counter(pair.due for pair in TERMS) == {"YES": 15, "NO": 15}
    assert set(Counter(pair.kind for pair in [*PAIRS, *TERMS]).values()) == {3}


def test_no_pair_repeats_another_one_or_its_reference() -> None:
    """Each needs a judgement of its own, and none is settled without the judge."""
    pairs = [*PAIRS, *TERMS]

    assert len({(pair.reference, pair.answer) for pair in pairs}) == 90
    assert not [pair for pair in pairs if pair.reference.casefold() == pair.answer.casefold()]


def test_a_term_is_short_and_has_no_number() -> None:
    """A verifier knows names, not sentences or quantities."""
    texts = [text for pair in TERMS for text in (pair.reference, pair.answer)]

    assert not [text for text in texts if re.search(r"[\d.,?]", text) or len(text.split()) > 5]


def test_the_exam_shares_no_pair_with_the_development_set() -> None:
    """Rules and judges are tuned on those answers."""
    known = {(row.reference.casefold(), row.answer.casefold()) for row in labelled_answers()}

    pairs = [*PAIRS, *TERMS]
    assert not known & {(pair.reference.casefold(), pair.answer.casefold()) for pair in pairs}


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


@pytest.mark.parametrize("verdict", ["YES", "NO"])
def test_a_constant_judge_fails(verdict: Verdict) -> None:
    """It is right about half of the pairs, so its balanced accuracy is that of chance."""
    result = marked(lambda _: verdict)

    assert result.balanced_accuracy == 0.5
    assert result.status == "failed"


def test_a_judge_may_miss_some_right_answers() -> None:
    """Twelve of thirty cost a fifth of the balanced accuracy; one more is too many."""
    assert wrong_about(PAIRS[:12]).balanced_accuracy == pytest.approx(0.8)
    assert wrong_about(PAIRS[:12]).status == "passed"
    assert wrong_about(PAIRS[:13]).status == "failed"


def test_three_wrong_answers_may_get_yes_unless_they_are_all_of_a_kind() -> None:
    """A whole kind is a hole that a policy finds."""
    wrong = PAIRS[30:]

    assert wrong_about(wrong[0:9:3]).status == "passed"
    assert wrong_about(wrong[0:12:3]).status == "failed"
    assert wrong_about(wrong[0:3]).status == "failed"


@pytest.mark.parametrize(("answered", "balanced"), [(15, 1.0), (14, None), (0, None)])
def test_too_few_verdicts_are_no_result(answered: int, balanced: float | None) -> None:
    """Half of the right and half of the wrong pairs need one."""
    kept = {*PAIRS[:30], *PAIRS[30 : 30 + answered]}
    result = marked(lambda pair: pair.due if pair in kept else None)

    assert result.balanced_accuracy == balanced
    assert result.status == ("no_result" if balanced is None else "passed")


def test_missing_verdicts_are_counted_apart() -> None:
    """They are in no share, and are no failures."""
    result = marked(lambda pair: pair.due if pair in PAIRS[:40] else None)

    assert (result.right.passed, result.right.answered) == (30, 30)
    assert (result.wrong.passed, result.wrong.answered) == (10, 10)
    assert result.unanswered == {ProblemKind.JUDGE_TIMEOUT: 20}
    assert result.failed == []


@pytest.mark.parametrize(
    ("problem", "is_repeated"),
    [
        (ProblemKind.JUDGE_TIMEOUT, True),
        (ProblemKind.JUDGE_UNREACHABLE, True),
        (ProblemKind.JUDGE_REFUSED, False),  # the judge would refuse again
        (ProblemKind.JUDGE_ABSTAINED, False),
    ],
)
def test_an_exam_without_a_result_is_repeated_if_verdicts_may_come(
    problem: ProblemKind, is_repeated: bool
) -> None:
    """A judge that is away comes back; one that refuses or abstains does so again."""
    assert marked(lambda _: None, problem=problem).is_worth_repeating is is_repeated
    assert not marked(lambda pair: pair.due, problem=problem).is_worth_repeating


def test_a_judge_of_terms_passes_by_terms_alone() -> None:
    """What it gets wrong of whole answers is told, and changes nothing."""
    result = marked(lambda pair: pair.due if pair.scope == "terms" else "YES", "terms")

    assert result.report == JudgeExam(status="passed", scope="terms", balanced_accuracy=1.0)
    assert result.failed == []
    assert faults(result.uncounted).startswith(
        "says YES to 30 of 30 wrong answers, such as an unrelated "
    )


def test_a_judge_of_terms_fails_by_terms() -> None:
    """Whole answers do not make up for them."""
    result = marked(lambda pair: pair.due if pair.scope == "answers" else "YES", "terms")

    assert result.report == JudgeExam(status="failed", scope="terms", balanced_accuracy=0.5)
    assert result.advice.startswith(
        "This judge says YES to 15 of 15 wrong answers, such as an unrelated term, a related dis"
    )
    assert faults(result.uncounted) == ""


def test_two_of_fifteen_wrong_terms_with_yes_are_too_many() -> None:
    """The limit is the share of the whole exam: a tenth."""
    wrong = TERMS[15::3]

    assert marked(_wrong_about(wrong[:1]), "terms").status == "passed"
    assert marked(_wrong_about(wrong[:2]), "terms").status == "failed"


def test_a_passed_exam_has_no_advice() -> None:
    """There is nothing to mend."""
    assert marked(lambda pair: pair.due).advice == ""
