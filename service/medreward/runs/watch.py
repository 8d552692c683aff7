"""The watch over runs: it takes the samples of each request and writes reports."""

from bisect import insort
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import islice
from threading import Lock
from typing import Any, Final, NamedTuple

from medreward.runs.alerts import AlertDetector, shown
from medreward.runs.answers import RepeatedAnswers
from medreward.runs.moments import Moments
from medreward.runs.observe import Observed
from medreward.runs.report import RunReport
from medreward.runs.steps import DISAGREEMENTS, Groups, Step
from medreward.telemetry.metrics import Metrics

AT_ONCE = 64
"""Samples added under one lock: other threads wait for a fraction of a millisecond."""
MOST_OPEN = 8
"""Steps of a run that may be open at once."""
ENOUGH: Final = 0.5
"""Samples of later steps, as a share of a step's own, at which the step ends."""
UNTOLD_SAMPLES = 256
"""Samples of one step, at least, if a run sends no step numbers."""
SHOWN_ANSWERS = 8
MOST_RUNS, MOST_STEPS, MOST_GROUPS = 64, 512, 4096
"""Runs held at most; for each run, its steps and the groups that may still grow."""


class RunKey(NamedTuple):
    """A run's id, and the namespace of the callers who may see it."""

    namespace: str
    id: str


class Limits(NamedTuple):
    """Steps and groups of one run that are held, at most."""

    steps: int
    groups: int


class Run:
    """State of one run: its open and ended steps, groups, answers and alerts."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits = limits
        self._metrics = metrics
        self._steps: dict[int, Step] = {}
        self._past = Step()
        """Sums of the dropped steps."""
        self._open: list[int] = []
        self._over_to = -1
        self._tells_steps = False
        self._groups = Groups(limits.groups)
        self._answers = RepeatedAnswers()
        self._detector = AlertDetector()
        self._forgotten_steps = self._late = 0

    @property
    def held(self) -> int:
        """Number of steps, groups and answers held, including the answers of open steps."""
        of_open = sum(len(self._steps[number].seen or ()) for number in self._open)
        return len(self._steps) + len(self._groups) + self._answers.held + of_open

    def number(self, told: int | None) -> int:
        """Return the step of the next samples: *told*, or the newest open one if *told* is None.

        If a run sends no step numbers, a new step begins after every `UNTOLD_SAMPLES` samples.
        """
        if told is not None:
            self._tells_steps = True
            return told
        if not self._open:
            return 0
        newest = self._open[-1]
        is_full = self._steps[newest].counts["samples"] >= UNTOLD_SAMPLES
        return newest + 1 if is_full and not self._tells_steps else newest

    def add(self, number: int, samples: Sequence[Observed]) -> None:
        """Add *samples* of one step."""
        step = self._step(number)
        known = {kind: step.counts[kind] for kind in DISAGREEMENTS}
        step.add(samples)
        for kind in DISAGREEMENTS:
            self._metrics.disagreements[kind].inc(step.counts[kind] - known[kind])
        self._answers.add(samples)
        if step.seen is None:
            self._late += len(samples)
        else:
            self._groups.add(number, step, samples)
            self._end_steps()

    def report(self, run_id: str) -> dict[str, Any]:
        """Build a `RunReport` of plain dictionaries, which is fast: the caller holds the lock."""
        total = Step()
        for step in (self._past, *self._steps.values()):
            total.merge(step)
        return {
            "id": run_id,
            "alerts": [asdict(alert) for alert in self._detector.alerts],
            "total": _sums(total),
            "steps": [{"step": n, **_sums(step)} for n, step in sorted(self._steps.items())],
            "answers": [
                repeat._asdict() | {"answer": shown(repeat.answer)}
                for repeat in self._answers.most_used(SHOWN_ANSWERS)
            ],
            "forgotten": {
                "steps": self._forgotten_steps,
                "groups": self._groups.forgotten,
                "late_samples": self._late,
            },
        }

    def _step(self, number: int) -> Step:
        if number in self._steps:
            return self._steps[number]
        if number <= self._over_to:
            # A step that was dropped or never opened: all up to `_over_to` have
            # ended, so its samples only enter the sums of the past.
            return self._past
        insort(self._open, number)
        step = self._steps[number] = Step(seen=set())
        if len(self._open) > MOST_OPEN:
            self._end(self._open[0])
        if len(self._steps) > self._limits.steps:
            self._forget(next(n for n in self._steps if n not in self._open))
        return step

    def _forget(self, number: int) -> None:
        self._past.merge(self._steps.pop(number))
        self._forgotten_steps += 1

    def _end_steps(self) -> None:
        """End old steps once later ones have enough samples, since requests may arrive out of order."""
        while len(self._open) > 1:
            oldest, *later = [self._steps[number].counts["samples"] for number in self._open]
            if sum(later) < ENOUGH * oldest:
                return
            self._end(self._open[0])

    def _end(self, number: int) -> None:
        step = self._steps[number]
        step.seen = None
        self._open.remove(number)
        self._over_to = number
        level = step.counts["zero_variance_groups"]
        self._metrics.run_groups["none"].inc(level)
        self._metrics.run_groups["some"].inc(step.counts["groups"] - level)
        for kind in self._detector.end(number, step, self._answers):
            self._metrics.run_alerts[kind].inc()
        self._answers.age()


class RunWatch:
    """Watches the most recent runs in a fixed amount of memory. Thread-safe.

    With the default limits, a run takes about three megabytes at most (measured).
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        max_runs: int = MOST_RUNS,
        max_steps: int = MOST_STEPS,
        max_groups: int = MOST_GROUPS,
    ) -> None:
        self._metrics = metrics
        self._max_runs = max_runs
        # More steps than may be open at once, so that there is always an ended
        # one to drop.
        self._limits = Limits(steps=max(max_steps, MOST_OPEN + 1), groups=max_groups)
        self._runs: OrderedDict[RunKey, Run] = OrderedDict()
        self._lock = Lock()
        metrics.runs_watched.set_function(lambda: len(self._runs))

    @property
    def held(self) -> int:
        """Number of objects held for all runs, which determines the memory used."""
        with self._lock:
            return sum(run.held for run in self._runs.values())

    def observe(self, key: RunKey, step: int | None, samples: Iterable[Observed]) -> None:
        """Add the samples of one request, to the newest open step if *step* is None."""
        coming = iter(samples)
        with self._lock:
            number = self._run(key).number(step)
        while some := list(islice(coming, AT_ONCE)):
            with self._lock:
                self._run(key).add(number, some)

    def report(self, key: RunKey) -> RunReport | None:
        """Return the report of a run; None if the run is unknown."""
        with self._lock:
            run = self._runs.get(key)
            report = None if run is None else run.report(key.id)
        return None if report is None else RunReport.model_validate(report)

    def _run(self, key: RunKey) -> Run:
        run = self._runs.get(key)
        if run is None:
            run = self._runs[key] = Run(self._limits, self._metrics)
            self._make_room()
        self._runs.move_to_end(key)
        return run

    def _make_room(self) -> None:
        if len(self._runs) > self._max_runs:
            # The oldest run of the namespace with the most runs is dropped, so that
            # one caller with many runs cannot displace those of others.
            having = Counter(key.namespace for key in self._runs)
            most = max(having.values())
            del self._runs[next(key for key in self._runs if having[key.namespace] == most)]


def _sums(step: Step) -> dict[str, Any]:
    """Build a `RunSums`."""
    return {
        "samples": step.counts["samples"],
        "unscored": step.counts["unscored"],
        "reward": _moments(step.rewards),
        "components": {name: _moments(values) for name, values in step.components.items()},
        "answer_characters": _moments(step.characters),
        "length_correlation": step.lengths.correlation,
        "groups": step.counts["groups"],
        "zero_variance_groups": step.counts["zero_variance_groups"],
        "judge_only": step.share("judge_only", "compared"),
        "embedder_only": step.share("embedder_only", "compared"),
        "flags": step.flag_shares,
        "distinct_answers": step.share("distinct_answers", "answers"),
    }


def _moments(moments: Moments) -> dict[str, float]:
    """Build a `RunMoments`."""
    return {"count": moments.count, "mean": moments.mean, "sd": moments.sd}
