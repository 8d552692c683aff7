"""Two models are compared by the same items, and what cannot be told is said."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from medreward_eval.report.comparison_tables import conclusion, conclusions
from medreward_eval.statistics.comparison import (
    Difference,
    compare,
    holm,
    mcnemar,
)
from medreward_eval.statistics.scores import Estimate, Interval
from tests.evaluation.sample_scores import Credits, binary

SURE = "(95 % interval {} to {}); chance alone would rarely give this."
FEW = "Too few answers tell the two apart on medqa"
WHERES = [
    "over 3 tasks",
    "over 2 text tasks",
    "on medqa",
    "on medmcqa",
    "on rad_vqa",
    "On usmle_sa",
]
OPEN = "anything from A {} points better to B {} points better fits"

answers = st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0])), min_size=1)
reports = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.2, 1 / 3, 0.6, 1.0]), st.sampled_from([0.0, 0.2, 0.4, 0.9, 1.0])
    ),
    min_size=1,
)


def one_task(pairs: list[tuple[float, float]], *, is_binary: bool) -> Difference:
    """Compare by a single task."""
    first, second = np.array(pairs).T
    return compare({"medqa": ("own", first, second, is_binary)}, draws=200).tasks[0]


@pytest.mark.parametrize("largest", [40, pytest.param(400, marks=pytest.mark.slow)])
@given(data=st.data())
def test_mcnemars_test_is_the_exact_one(largest: int, data: st.DataObject) -> None:
    """It is the two-sided test of a fair coin, and no discordant answers give no evidence."""
    only_first, only_second = data.draw(st.tuples(*(st.integers(0, largest),) * 2))
    total = only_first + only_second
    known = stats.binomtest(only_first, total).pvalue if total else 1.0

    assert mcnemar(only_first, only_second).p == pytest.approx(known)


def test_p_values_are_adjusted_by_holm() -> None:
    """Each is multiplied by how many are not smaller, and none comes out below a smaller one."""
    assert holm([0.04, 0.01, 0.03, 0.9]) == pytest.approx([0.09, 0.04, 0.09, 0.9])
    assert holm([]) == []


@given(answers.map(lambda pairs: (pairs, True)) | reports.map(lambda pairs: (pairs, False)))
def test_swapping_the_models_changes_signs_only(
    given_: tuple[list[tuple[float, float]], bool],
) -> None:
    """A against B says the same as B against A, for answers and for reports."""
    pairs, is_binary = given_
    there = one_task(pairs, is_binary=is_binary).difference
    back = one_task([(b, a) for a, b in pairs], is_binary=is_binary).difference

    assert back.value == pytest.approx(-there.value)
    assert back.interval == pytest.approx((-there.interval.high, -there.interval.low), abs=1e-9)


@given(reports)
def test_the_order_of_items_does_not_matter(pairs: list[tuple[float, float]]) -> None:
    """A sorted file gives the same bounds."""
    mixed = sorted(pairs)

    there, back = (one_task(one, is_binary=False).difference for one in (pairs, mixed))

    assert back.value == pytest.approx(there.value)
    assert back.interval == pytest.approx(there.interval)


@given(reports)
def test_a_difference_lies_in_its_interval(pairs: list[tuple[float, float]]) -> None:
    """The bounds hold it, are apart, and go from -1 to 1 at most."""
    value, (low, high) = one_task(pairs, is_binary=False).difference

    assert -1 <= low <= value <= high <= 1
    assert high - low > 1e-4


@given(answers)
def test_a_model_does_not_differ_from_itself(pairs: list[tuple[float, float]]) -> None:
    """The difference is 0, and yet its interval has a width: other items might differ."""
    row = one_task([(a, a) for a, _ in pairs], is_binary=True)

    assert row.difference.value == 0
    assert row.difference.interval.low < 0 < row.difference.interval.high
    assert row.p_adjusted == 1
    assert not row.is_told


def test_a_task_says_how_each_model_did() -> None:
    """Accuracies, discordant answers and p are of the items in common."""
    row = compare({"medqa": binary(100, 20, 50, 30)}).tasks[0]

    assert (row.items, row.first, row.second) == (200, 0.6, 0.75)
    assert row.difference.value == pytest.approx(0.15)
    assert row.difference.interval == pytest.approx((0.07, 0.23), abs=0.01)
    assert row.discordant == mcnemar(20, 50)
    assert row.is_told


def test_p_values_are_adjusted_over_the_tasks_that_have_one() -> None:
    """Reports have none, and do not count as a test."""
    first, second = np.array([0.2, 0.4, 0.6]), np.array([0.4, 0.4, 1.0])
    rows = compare(
        {
            "medqa": binary(90, 5, 20, 5),
            "reports": ("llm", first, second, False),
            "medmcqa": binary(90, 10, 10, 5),
        }
    ).tasks

    assert rows[0].discordant is not None
    assert rows[0].p_adjusted == pytest.approx(2 * rows[0].discordant.p)
    assert (rows[1].discordant, rows[1].p_adjusted) == (None, None)
    assert rows[2].p_adjusted == 1


def test_averages_count_each_task_the_same() -> None:
    """They are plain means of tasks, and the user's own tasks are no part of the benchmarks'."""
    found = compare(
        {
            "medqa": binary(80, 0, 10, 10),
            "medmcqa": binary(800, 0, 0, 200),
            "rad_vqa": binary(50, 10, 0, 40, "vlm"),
            "mine": binary(1, 0, 9, 0, "own"),
        }
    )
    averages = {average.name: average for average in found.averages}

    assert [
        (averages[name].tasks, averages[name].items, round(averages[name].difference.value, 6))
        for name in ("LLM", "VLM", "Overall")
    ] == [(2, 1_100, 0.05), (1, 100, -0.1), (3, 1_200, 0.0)]
    assert averages["Overall"].discordant == mcnemar(10, 10)


def test_swapping_the_models_swaps_averages_too() -> None:
    """Tasks of both kinds, and one that is its own mirror, keep their draws together."""
    tasks: dict[str, Credits] = {
        "medqa": binary(80, 3, 10, 10),
        "medmcqa": binary(80, 5, 5, 10),
        "reports": ("llm", np.array([0.2, 0.4, 0.6]), np.array([0.4, 0.4, 1.0]), False),
    }
    swapped = {name: (group, b, a, kind) for name, (group, a, b, kind) in tasks.items()}

    there, back = (compare(one).averages[-1].difference for one in (tasks, swapped))

    assert back.interval == pytest.approx((-there.interval.high, -there.interval.low))


def test_a_tasks_bounds_do_not_depend_on_other_tasks() -> None:
    """Each task has its own draws, whatever its position."""
    alone = compare({"medqa": binary(80, 3, 10, 10)}).tasks[0]
    beside = compare({"medmcqa": binary(80, 5, 5, 10), "medqa": binary(80, 3, 10, 10)}).tasks[1]

    assert alone.difference == beside.difference


def test_many_distinct_scores_are_drawn_in_bounded_memory() -> None:
    """A hundred thousand differences, no two alike, are few thousand steps."""
    first, second = np.random.default_rng(0).uniform(0, 1, (2, 100_000))

    row = compare({"reports": ("own", first, second, False)}, draws=500).tasks[0]

    spread = 1.96 * float(np.std(second - first)) / 100_000**0.5
    assert row.difference.interval == pytest.approx(
        (row.difference.value - spread, row.difference.value + spread), abs=spread / 4
    )


@pytest.mark.parametrize(
    ("first", "second", "is_binary", "message"),
    [
        ([1.0], [1.0, 0.0], True, "medqa: the models' credits are not of the same items"),
        ([1.0], [float("nan")], False, "medqa: credits must be at most 1"),
        ([5.0], [1.0], False, "medqa: credits must be at most 1"),
        ([0.5], [1.0], True, "medqa: credits of right and wrong answers must be 0 or 1"),
    ],
)
def test_credits_that_cannot_be_are_refused(
    first: list[float], second: list[float], is_binary: bool, message: str
) -> None:
    """The error names the task; an unjudged item must not enter as a number."""
    with pytest.raises(ValueError, match=message):
        compare({"medqa": ("own", np.array(first), np.array(second), is_binary)})


@pytest.mark.parametrize(
    ("outcomes", "sentence"),
    [
        ((100, 20, 50, 30), "B scores 15.0 points more than A on medqa " + SURE),
        ((100, 50, 20, 30), "A scores 15.0 points more than B on medqa " + SURE),
        (
            (100, 10, 14, 76),
            f"No difference can be told on medqa: {OPEN} these 200 answers.",
        ),
        (
            (190, 1, 4, 1_005),
            f"{FEW}: 5 of 1,200, and it takes 6 or more; {OPEN} these 1,200 answers.",
        ),
        (
            (1, 0, 0, 0),
            f"{FEW}: 0 of 1, and it takes 6 or more; {OPEN} this 1 answer.",
        ),
    ],
)
def test_a_sentence_says_what_can_be_concluded(
    outcomes: tuple[int, int, int, int], sentence: str
) -> None:
    """The better model is named, or the range that the answers leave open."""
    row = compare({"medqa": binary(*outcomes)}).tasks[0]
    low, high = sorted(abs(100 * bound) for bound in row.difference.interval)
    if not row.is_told:
        low, high = -100 * row.difference.interval.low, 100 * row.difference.interval.high

    assert conclusion(row, "A", "B") == sentence.format(f"{low:.1f}", f"{high:.1f}")


def test_one_task_of_many_may_differ_by_chance() -> None:
    """An interval that excludes 0 is not enough if the adjusted p is 0.05 or more."""
    found = compare(
        {"medqa": binary(90, 2, 10, 98), **{f"t{i}": binary(50, 9, 9, 32) for i in range(10)}}
    )
    row = found.tasks[0]

    assert row.difference.interval.low > 0
    assert not row.is_told
    assert conclusion(row, "A", "B").endswith(
        "but chance alone would give as much too often (p = 0.42, adjusted for the number of tasks)."
    )


def test_averages_are_concluded_first() -> None:
    """Averages precede tasks, and tasks without items come last."""
    nothing = np.array([])
    found = compare(
        {
            "medqa": binary(100, 20, 50, 30),
            "medmcqa": binary(100, 20, 50, 30),
            "rad_vqa": binary(100, 10, 14, 76, "vlm"),
            "usmle_sa": ("llm", nothing, nothing, True),
        }
    )

    told = conclusions(found, "A", "B")

    assert [next(where for where in WHERES if where in line) for line in told] == WHERES
    assert told[-1] == "On usmle_sa nothing can be said: no answer was judged for both models."
    assert found.without_items == ["usmle_sa"]


def test_an_average_that_says_nothing_new_is_not_concluded() -> None:
    """With text tasks only, Overall equals LLM; an average over one task equals the task."""
    both = compare({"medqa": binary(100, 20, 50, 30), "medmcqa": binary(100, 20, 50, 30)})
    one = compare({"medqa": binary(100, 20, 50, 30)})

    assert "on average over 2 text tasks" in conclusions(both, "A", "B")[0]
    assert (len(conclusions(both, "A", "B")), len(conclusions(one, "A", "B"))) == (3, 1)


def test_a_bound_of_0_is_no_difference() -> None:
    """No model is said to be 0.0 points better."""
    difference = Estimate(0.01, Interval(-0.0004, 0.02))
    average = Difference("Overall", 300, 0.5, 0.51, difference, None, tasks=2)

    assert conclusion(average, "A", "B") == (
        "No difference can be told on average over 2 tasks: anything from no difference to B 2.0 "
        "points better fits these 300 answers."
    )
