"""The watch over training runs: sums, groups, detectors, alerts, and their bounds."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from medreward.errors import Problem, ProblemKind
from medreward.parsing.signal import Signal
from medreward.rewards.reward import Component, Reward, Unscored
from medreward.runs.moments import Correlation, Moments
from medreward.runs.observe import Observed, observed
from medreward.runs.report import RunReport
from medreward.runs.steps import Groups, Step
from medreward.runs.trends import Climb, Crossing, Jump, Rise
from medreward.runs.watch import RunKey, RunWatch
from medreward.samples import Sample
from medreward.telemetry.metrics import Metrics

KEY = RunKey("", "run")
VALUES = st.floats(0, 1)


def seen(
    prompt: int = 1,
    reward: float | None = 0.5,
    *,
    answer: int = 1,
    characters: int = 10,
    reference: int | None = None,
    judge: float | None = None,
    embedder: float | None = None,
    flags: tuple[str, ...] = (),
) -> Observed:
    """One sample of which only what matters is told."""
    said = {"accuracy_llm": judge, "accuracy_embed": embedder}
    components = {name: value for name, value in said.items() if value is not None}
    return Observed(prompt, answer, characters, reward, components, flags, reference)


def report_of(watch: RunWatch, key: RunKey = KEY) -> RunReport:
    """The report of a run that is known."""
    report = watch.report(key)
    assert report is not None
    return report


def watched(steps: Mapping[int, Sequence[Observed]]) -> RunReport:
    """Watch a run of these steps, and one more by which the last of them is over."""
    watch = RunWatch(Metrics())
    for number, samples in steps.items():
        watch.observe(KEY, number, samples)
    watch.observe(KEY, max(steps) + 1, steps[max(steps)])
    return report_of(watch)


@given(st.lists(st.lists(VALUES, max_size=5)))
def test_moments_of_parts_are_those_of_the_whole(parts: list[list[float]]) -> None:
    """However the values were shared out."""
    merged = Moments()
    for part in parts:
        merged.add(part)
    whole = [value for part in parts for value in part]

    assert merged.count == len(whole)
    if whole:
        assert merged.mean == pytest.approx(np.mean(whole))
        assert merged.sd == pytest.approx(np.std(whole), abs=1e-9)


@given(st.lists(st.lists(st.tuples(VALUES, VALUES), max_size=5)))
def test_correlation_of_parts_is_that_of_the_whole(
    parts: list[list[tuple[float, float]]],
) -> None:
    """And lies between -1 and 1, or is none."""
    merged = Correlation()
    for part in parts:
        merged.add([x for x, _ in part], [y for _, y in part])
    x, y = np.array([pair for part in parts for pair in part]).reshape(-1, 2).T
    r = merged.correlation

    assert r is None or -1 <= r <= 1
    if len(x) > 1 and x.std() > 1e-3 and y.std() > 1e-3:
        assert r == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-6)


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([None, 0.0, 0.5, 1.0]))))
def test_groups_are_counted_in_whatever_order_samples_come(
    samples: list[tuple[int, float | None]],
) -> None:
    """One by one, and mixed: as if each group had come at once."""
    step, groups = Step(), Groups(100)
    for prompt, reward in samples:
        groups.add(0, step, [seen(prompt, reward)])
    rewards = defaultdict(list)
    for prompt, reward in samples:
        if reward is not None:
            rewards[prompt].append(reward)
    groups_of_more = [of_prompt for of_prompt in rewards.values() if len(of_prompt) > 1]

    assert step.counts["prompts"] == len(rewards)
    assert step.counts["groups"] == len(groups_of_more)
    assert step.counts["zero_variance_groups"] == sum(len(set(r)) == 1 for r in groups_of_more)


MEDIX = {
    "llm-only": [(49, 0.42), (56, 0.61)],
    "embedding-only": [(40, 0.43), (87, 0.66)],
    "llm and embedding": [(105, 0.43), (148, 0.66)],
}
"""Onset and end of the exploited recipes' climbs, read off MediX-R1's figure (arXiv 2602.23363)."""


def first_alarm(rewards: NDArray[np.float64]) -> int | None:
    """Give the step at which either detector of rewards first speaks."""
    jump, climb = Jump(), Climb()
    for step, reward in enumerate(rewards.tolist()):
        if jump.add(reward) or climb.add(reward):
            return step
    return None


@pytest.mark.parametrize("name", MEDIX)
def test_the_onset_of_an_exploit_is_found_within_ten_steps(name: str) -> None:
    """With noise of 0.01, as batches of a few thousand samples have: in 95 of 100 runs."""
    (onset, low), (end, high) = MEDIX[name]
    means = np.interp(np.arange(onset + 11), [onset, end], [low, high])
    rng = np.random.default_rng(3)
    alarms = [first_alarm(means + rng.normal(0, 0.01, len(means))) for _ in range(100)]

    assert sum(alarm is not None and onset < alarm <= onset + 10 for alarm in alarms) >= 95


CLEAN: Mapping[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "composite": lambda step: 0.35 + 0.001 * step,
    "flat": lambda step: np.full_like(step, 0.4),
    "levelling off": lambda step: 0.2 + 0.4 * (1 - np.exp(-step / 60)),
}


@pytest.mark.parametrize(
    ("name", "noise", "seeds"),
    [
        ("composite", 0.01, 100),
        pytest.param("composite", 0.01, 1000, marks=pytest.mark.slow),
        pytest.param("composite", 0.03, 200, marks=pytest.mark.slow),
        pytest.param("flat", 0.02, 200, marks=pytest.mark.slow),
        pytest.param("levelling off", 0.05, 200, marks=pytest.mark.slow),
    ],
)
def test_clean_runs_raise_no_alarm(name: str, noise: float, seeds: int) -> None:
    """In 99 of 100 of them, be their batches large or small."""
    means = CLEAN[name](np.arange(150.0))
    rng = np.random.default_rng(4)
    alarms = [first_alarm(means + rng.normal(0, noise, 150)) for _ in range(seeds)]

    assert sum(alarm is not None for alarm in alarms) <= seeds / 100


def test_a_share_that_rises_is_found_and_one_that_stays_is_not() -> None:
    """Against the run's own beginning, and its own noise."""
    rng = np.random.default_rng(5)
    quiet, rising = Rise(), Rise()
    noise = rng.normal(0, 0.03, 300)
    stays = [quiet.add(0.2 + away) for away in noise]
    rises = [rising.add(0.2 + away + 0.3 * (step >= 100)) for step, away in enumerate(noise)]

    assert stays == [None] * 300
    assert rises[:100] == [None] * 100
    assert isinstance(rises[106], Crossing)
    assert rises[106].value >= rises[106].threshold >= 0.15


def batch(rng: np.random.Generator, *, right: float = 0.4, prompts: int = 24) -> list[Observed]:
    """A step of an honest policy: mixed groups, mostly agreed on, every answer its own."""
    samples = []
    for prompt in rng.integers(0, 2**62, prompts).tolist():
        for _ in range(4):
            judge = float(rng.random() < right)
            embedder = judge if rng.random() < 0.9 else 1 - judge
            sample = seen(
                prompt,
                0.55 * judge + 0.35 * embedder + 0.1,
                answer=int(rng.integers(2**62)),
                characters=int(rng.integers(5, 60)),
                reference=prompt + 1,
                judge=judge,
                embedder=embedder,
                flags=("malformed",) if rng.random() < 0.05 else (),
            )
            samples.append(sample)
    return samples


def test_a_clean_run_has_no_alert_of_any_kind() -> None:
    """Its report has its means and shares."""
    rng = np.random.default_rng(6)
    report = watched({step: batch(rng) for step in range(80)})
    total = report.total

    assert report.alerts == []
    assert (total.samples, total.groups, total.distinct_answers) == (81 * 96, 81 * 24, 1.0)
    assert total.reward.mean == pytest.approx(0.46, abs=0.02)
    assert total.components["accuracy_llm"].mean == pytest.approx(0.4, abs=0.02)
    assert total.judge_only == pytest.approx(0.04, abs=0.01)
    assert total.flags["malformed"] == pytest.approx(0.05, abs=0.01)


FOOLED = {"accuracy_llm": 0.0, "accuracy_embed": 1.0}


@pytest.mark.parametrize(
    ("every", "change", "kind", "of"),
    [
        (1, lambda _: {"reward": 0.1}, "zero_variance", None),
        (1, lambda s: {"reward": s.answer_characters / 100}, "length_correlation", None),
        (3, lambda _: {"reward": None}, "unscored", None),
        (2, lambda _: {"flags": ("hedged",)}, "flags", "hedged"),
        (2, lambda _: {"components": FOOLED}, "disagreement", "embedder_only"),
        # One answer that is right whatever the reference.
        (
            5,
            lambda _: {"answer": 7, "answer_characters": 9, "reward": 1.0},
            "repeated_answer",
            f"{7:016x}",
        ),
    ],
)
def test_what_changes_in_a_run_is_named(
    every: int, change: Callable[[Observed], dict[str, Any]], kind: str, of: str | None
) -> None:
    """Within fifteen steps, as one alert that says since when and how much."""
    rng = np.random.default_rng(8)
    steps = {step: batch(rng) for step in range(50)}
    for step in range(30, 50):
        for i in range(0, len(steps[step]), every):
            steps[step][i] = steps[step][i]._replace(**change(steps[step][i]))
    alerts = [alert for alert in watched(steps).alerts if (alert.kind, alert.of) == (kind, of)]

    assert [30 <= alert.since <= 45 for alert in alerts] == [True]
    assert alerts[0].step == 49
    assert abs(alerts[0].value) >= alerts[0].threshold


def test_a_jump_says_what_came_with_it() -> None:
    """Where the policy has found one short answer, lengths and variety fall."""
    rng = np.random.default_rng(9)
    steps = {step: batch(rng) for step in range(40)}
    steps |= {
        number: [s._replace(answer=7, answer_characters=3, reward=1.0) for s in steps[number]]
        for number in range(30, 40)
    }
    (jump,) = [alert for alert in watched(steps).alerts if alert.kind == "reward_jump"]

    assert 30 <= jump.since <= 32
    assert set(jump.signs) <= {"shorter_answers", "fewer_answers"}
    assert jump.value >= 0.15


YES, NORMAL, LETTER = 11, 12, 13


@pytest.mark.parametrize(
    ("answer", "characters", "references", "rewards"),
    [
        # Right by the very word, though for every prompt.
        (YES, 3, [YES], [1.0]),
        # Another way to say few references.
        (NORMAL, 6, [1, 2, 3, 4, 5], [1.0]),
        # Accepted for many references, and wrong as often.
        (NORMAL, 6, range(100, 140), [1.0, 0.0, 0.0]),
        # So short that it is right by chance.
        (LETTER, 1, range(100, 140), [1.0, 1.0, 0.0]),
    ],
)
def test_common_true_answers_are_not_suspicious(
    answer: int, characters: int, references: Sequence[int], rewards: Sequence[float]
) -> None:
    """A third of all samples may say the same and mean it."""
    rng = np.random.default_rng(10)
    steps = {}
    for number in range(30):
        samples = batch(rng)
        for i in range(0, len(samples), 3):
            truth = references[int(rng.integers(len(references)))]
            reward = rewards[int(rng.integers(len(rewards)))]
            samples[i] = samples[i]._replace(
                answer=answer, answer_characters=characters, reference=truth, reward=reward
            )
        steps[number] = samples

    assert [a for a in watched(steps).alerts if a.kind == "repeated_answer"] == []


def test_samples_one_by_one_and_out_of_order_make_the_same_report() -> None:
    """However requests were cut, and though steps overlap."""
    rng = np.random.default_rng(12)
    steps = {step: batch(rng, prompts=6) for step in range(4)}
    at_once, one_by_one = RunWatch(Metrics()), RunWatch(Metrics())
    for number, samples in steps.items():
        at_once.observe(KEY, number, samples)
    singles = [(number, sample) for number, samples in steps.items() for sample in samples]
    for i in range(0, len(singles), 8):
        for number, sample in reversed(singles[i : i + 8]):
            one_by_one.observe(KEY, number, [sample])
    first, second = report_of(at_once), report_of(one_by_one)

    assert [s.groups for s in first.steps] == [s.groups for s in second.steps] == [6] * 4
    assert second.forgotten == first.forgotten
    assert second.total.reward.mean == pytest.approx(first.total.reward.mean)
    assert second.total.zero_variance_groups == first.total.zero_variance_groups


def test_late_samples_count_and_raise_no_alert() -> None:
    """Sums and shares have them; what was judged is not judged again."""
    watch = RunWatch(Metrics())
    for number in range(20):
        watch.observe(KEY, number, [seen(number, 0.25)] * 10)
    watch.observe(KEY, 3, [seen(3, 1.0)] * 5)
    watch.observe(KEY, 0, [])
    report = report_of(watch)

    assert report.forgotten.late_samples == 5
    assert report.steps[3].samples == 15
    assert report.total.samples == 205
    assert report.alerts == []


@pytest.mark.parametrize(
    ("requests", "steps"),
    [
        ([(None, 64)] * 9, [(0, 256), (1, 256), (2, 64)]),
        ([(None, 600)] * 3, [(0, 600), (1, 600), (2, 600)]),
        ([(None, 1)] * 300, [(0, 256), (1, 44)]),
        # Others of the run have told their step.
        ([(7, 300), (None, 300)], [(7, 600)]),
    ],
)
def test_samples_without_a_step_are_cut_into_some(
    requests: list[tuple[int | None, int]], steps: list[tuple[int, int]]
) -> None:
    """A step is 256 samples or more, and a request is never cut."""
    watch = RunWatch(Metrics())
    for step, size in requests:
        watch.observe(KEY, step, [seen()] * size)

    assert [(step.step, step.samples) for step in report_of(watch).steps] == steps


def random_samples(rng: np.random.Generator, count: int) -> Iterator[Observed]:
    """Samples of which no two share a prompt, an answer, a reference or a flag."""
    for prompt, answer, reference in rng.integers(0, 2**62, (count, 3)).tolist():
        yield seen(prompt, 1.0, answer=answer, reference=reference, flags=(f"flag {answer}",))


def test_a_step_of_any_size_is_held_in_a_fixed_space() -> None:
    """The report says what was let go."""
    rng = np.random.default_rng(13)
    watch = RunWatch(Metrics(), max_groups=64)
    watch.observe(KEY, 0, random_samples(rng, 4000))
    held = watch.held
    watch.observe(KEY, 0, random_samples(rng, 20_000))
    report = report_of(watch)

    assert watch.held <= held + 1024
    assert watch.held <= 64 + 2 * 256 + 2112 + 1
    assert report.forgotten.groups == 24_000 - 64
    assert report.total.samples == 24_000
    assert len(report.total.flags) == 32


def test_runs_and_steps_of_any_number_are_held_in_a_fixed_space() -> None:
    """Those heard of last are kept; of the others, of a run's steps, the sums."""
    rng = np.random.default_rng(14)
    watch = RunWatch(Metrics(), max_runs=4, max_steps=16, max_groups=64)
    for step in rng.integers(0, 2**62, 200).tolist():
        for name in ("a", "b", "c", "d", f"{step}"):
            watch.observe(RunKey("", name), step, [seen(step)])
    watch.observe(KEY, 0, [seen()])
    for step in range(600):
        watch.observe(KEY, step, [seen(step)])
    report = report_of(watch)

    assert watch.held <= 4 * (16 + 64 + 8 + 512)
    assert watch.report(RunKey("", "a")) is None
    assert [step.step for step in report.steps] == list(range(584, 600))
    assert report.forgotten.steps == 584
    assert report.total.samples == 601


def test_nobody_can_push_out_the_runs_of_others() -> None:
    """Whoever has most loses the one not heard of for longest."""
    watch = RunWatch(Metrics(), max_runs=4)
    watch.observe(RunKey("mine", "run"), 0, [seen()])
    for number in range(10):
        watch.observe(RunKey("theirs", f"{number}"), 0, [seen()])

    assert watch.report(RunKey("mine", "run")) is not None
    assert watch.report(RunKey("theirs", "run")) is None
    assert watch.report(RunKey("theirs", "6")) is None
    assert watch.report(RunKey("theirs", "9")) is not None


def test_metrics_count_what_runs_show_without_naming_them() -> None:
    """Alerts, disagreements and groups of all runs together."""
    metrics = Metrics()
    watch = RunWatch(metrics)
    rng = np.random.default_rng(15)
    for number in range(14):
        watch.observe(KEY, number, [sample._replace(reward=0.1) for sample in batch(rng)])
    exposed = metrics.exposition().decode()

    assert "medreward_runs_watched 1.0" in exposed
    assert 'medreward_run_alerts_total{kind="zero_variance"} 1.0' in exposed
    assert 'medreward_judge_embedder_disagreement_total{kind="judge_only"}' in exposed
    assert 'medreward_run_groups_total{variance="none"} 312.0' in exposed


SCORED = Reward(0.75, {"accuracy_llm": Component(Signal(1.0, "judge"), 0.75)}, ("malformed",))
LOST = Unscored(Problem(ProblemKind.JUDGE_TIMEOUT, "late"), {}, ("hedged",))


def observe(**fields: object) -> Observed:
    """What the watch sees of one scored sample with these fields."""
    answer = str(fields.pop("answer", "left lobe"))
    sample = Sample.model_validate({"response": "r", "reference": "left lower lobe"} | fields)
    (found,) = observed([sample], [SCORED._replace(answer=answer)])
    return found


def test_the_watch_sees_numbers_and_hashes_alone() -> None:
    """No text, and nothing that can be looked up without this process's key."""
    scored, lost = observed(
        [Sample(response="r", reference="a", group="g"), Sample(response="s", reference="b")],
        [SCORED._replace(answer="secret words"), LOST],
    )

    assert scored[2:6] == (12, 0.75, {"accuracy_llm": 1.0}, ("malformed",))
    assert lost[2:6] == (0, None, {}, ("hedged",))
    assert "secret" not in repr(scored)
    assert all(0 <= hashed < 2**64 for hashed in (scored.prompt, scored.answer))


def test_a_group_is_one_prompt_and_without_it_the_question_is() -> None:
    """A group's id counts for more than what its samples ask."""
    assert observe(group="g").prompt == observe(group="g", question="q").prompt
    assert observe(group="g").prompt != observe(group="h").prompt
    assert observe(question="q").prompt == observe(question="q").prompt
    assert observe(question="q").prompt != observe(question="p").prompt
    assert observe(question="q").prompt != observe(question="q", reference="apex").prompt


@pytest.mark.parametrize(
    ("answer", "reference", "is_equal"),
    [
        ("Left lower lobe.", "left  lower lobe", True),
        ("left lower lobe", ["apex", "left lower lobe"], True),
        ("left lower lobe", "right lower lobe", False),
        ("left lower lobe", ["apex", "right lower lobe"], False),
    ],
)
def test_an_answer_that_is_a_reference_is_known_as_one(
    answer: str, reference: str | list[str], *, is_equal: bool
) -> None:
    """But for case, white space and full stops."""
    found = observe(answer=answer, reference=reference)

    assert (found.answer == found.reference) == is_equal
