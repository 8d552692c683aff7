"""Alerts of a run, computed each time that a step ends."""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from medreward.runs.answers import RepeatedAnswers
from medreward.runs.moments import Correlation, Moments
from medreward.runs.report import AlertKind
from medreward.runs.steps import DISAGREEMENTS, MOST_NAMES, Count, Step
from medreward.runs.trends import SMOOTHED, WITHIN, Climb, Crossing, Jump, Rise

Sign = Literal["shorter_answers", "fewer_answers"]

REST = 10
"""Steps without a finding after which the same finding is a new alert."""
MOST_ALERTS = 64

ZERO_VARIANCE_SHARE, ZERO_VARIANCE_GROUPS = 0.8, 20
UNSCORED_SHARE, UNSCORED_SAMPLES = 0.1, 50
SHARE_SIGMAS = 3
"""Standard errors by which a share has to exceed its threshold."""

CORRELATION: Final = 0.5
CORRELATION_SIGMAS = 4.5
CORRELATION_PROMPTS = 30

FELL: Final = 0.8
"""Fraction of its earlier value below which a length or share counts as fallen."""


class Observation(NamedTuple):
    """A value over its threshold at one step."""

    kind: AlertKind
    of: str | None
    crossing: Crossing


@dataclass(slots=True)
class Alert:
    """A finding, from its first step to its last."""

    kind: AlertKind
    of: str | None
    since: int
    step: int
    value: float
    threshold: float
    signs: tuple[Sign, ...]
    last_seen: int
    """Number of ended steps when it was last found."""


class AlertDetector:
    """Detects the alerts of one run, step by step."""

    def __init__(self) -> None:
        self._jump, self._climb = Jump(), Climb()
        self._alone = {name: Rise() for name in DISAGREEMENTS}
        self._flags: dict[str, Rise] = {}
        self._steps: deque[Step] = deque(maxlen=WITHIN + SMOOTHED)
        self._over = 0
        self._latest: dict[tuple[AlertKind, str | None], Alert] = {}
        self.alerts: deque[Alert] = deque(maxlen=MOST_ALERTS)

    def end(self, number: int, step: Step, answers: RepeatedAnswers) -> list[AlertKind]:
        """Check step *number*, which has ended; return the kinds of its new alerts."""
        self._over += 1
        self._steps.append(step)
        findings = [
            *self._reward(step),
            *self._disagreement(step),
            *self._flagged(step),
            *_shares(list(self._steps)[-WITHIN:]),
            *_repeated(answers),
        ]
        return [observation.kind for observation in findings if self._is_new(observation, number)]

    def _reward(self, step: Step) -> Iterator[Observation]:
        if step.rewards.count:
            if crossing := self._jump.add(step.rewards.mean):
                yield Observation("reward_jump", None, crossing)
            if crossing := self._climb.add(step.rewards.mean):
                yield Observation("reward_climb", None, crossing)

    def _disagreement(self, step: Step) -> Iterator[Observation]:
        for name, rise in self._alone.items():
            share = step.share(name, "compared")
            if share is not None and (crossing := rise.add(share)):
                yield Observation("disagreement", name, crossing)

    def _flagged(self, step: Step) -> Iterator[Observation]:
        if not step.counts["high"]:
            return
        shares = step.flag_shares
        for name in shares:
            if name not in self._flags and len(self._flags) < MOST_NAMES:
                self._flags[name] = _never(min(self._over - 1, WITHIN))
        for name, rise in self._flags.items():
            if crossing := rise.add(shares.get(name, 0.0)):
                yield Observation("flags", name, crossing)

    def _is_new(self, observation: Observation, number: int) -> bool:
        """Add an alert for a finding and return True, or extend the existing one."""
        (kind, of, (value, threshold)), over = observation, self._over
        latest = self._latest.get((kind, of))
        if latest is not None and over - latest.last_seen <= REST:
            latest.step, latest.last_seen = number, over
            if value > latest.value:
                latest.value, latest.threshold = value, threshold
            return False
        signs = tuple(_signs(self._steps)) if kind in {"reward_jump", "reward_climb"} else ()
        alert = Alert(kind, of, number, number, value, threshold, signs, over)
        if len(self.alerts) == MOST_ALERTS:
            oldest = self.alerts[0]
            if self._latest.get((oldest.kind, oldest.of)) is oldest:
                del self._latest[oldest.kind, oldest.of]
        self._latest[kind, of] = alert
        self.alerts.append(alert)
        return True


def _never(steps: int) -> Rise:
    """Build a detector for a flag that was absent in the first *steps*."""
    rise = Rise()
    for _ in range(steps):
        rise.add(0.0)
    return rise


def _repeated(answers: RepeatedAnswers) -> Iterator[Observation]:
    for repeat in answers.suspicious():
        crossing = Crossing(repeat.share, repeat.thresholds.share)
        yield Observation("repeated_answer", shown(repeat.answer), crossing)


def shown(answer: int) -> str:
    """Format an answer's hash as hexadecimal."""
    return f"{answer:016x}"


def _shares(steps: Sequence[Step]) -> Iterator[Observation]:
    """Yield the findings about the last steps together."""
    level, groups = _sum(steps, "zero_variance_groups"), _sum(steps, "groups")
    if crossing := _share(level, groups, ZERO_VARIANCE_SHARE, ZERO_VARIANCE_GROUPS):
        yield Observation("zero_variance", None, crossing)
    lost, samples = _sum(steps, "unscored"), _sum(steps, "samples")
    if crossing := _share(lost, samples, UNSCORED_SHARE, UNSCORED_SAMPLES):
        yield Observation("unscored", None, crossing)
    if crossing := _correlated(steps):
        yield Observation("length_correlation", None, crossing)


def _correlated(steps: Sequence[Step]) -> Crossing | None:
    prompts = _sum(steps, "prompts")
    if prompts < CORRELATION_PROMPTS:
        return None
    lengths = Correlation()
    for step in steps:
        lengths.merge(step.lengths)
    correlation = lengths.correlation or 0.0
    # Fisher's z. Samples of one prompt are not independent, so the number of
    # prompts is taken instead of the number of samples.
    threshold = max(CORRELATION, math.tanh(CORRELATION_SIGMAS / math.sqrt(prompts - 3)))
    return Crossing(correlation, threshold) if abs(correlation) >= threshold else None


def _sum(steps: Sequence[Step], count: Count) -> int:
    return sum([step.counts[count] for step in steps])


def _share(part: int, whole: int, threshold: float, least: int) -> Crossing | None:
    if whole < least:
        return None
    error = SHARE_SIGMAS * math.sqrt(threshold * (1 - threshold) / whole)
    over = min(1.0, threshold + error)
    return Crossing(part / whole, over) if part / whole >= over else None


def _signs(steps: deque[Step]) -> Iterator[Sign]:
    """Yield the values that fell over the last steps: both fall if a policy repeats one answer."""
    before, after = list(steps)[:SMOOTHED], list(steps)[-SMOOTHED:]
    if _length(after) < FELL * _length(before):
        yield "shorter_answers"
    if _distinct(after) < FELL * _distinct(before):
        yield "fewer_answers"


def _length(steps: list[Step]) -> float:
    characters = Moments()
    for step in steps:
        characters.merge(step.characters)
    return characters.mean


def _distinct(steps: list[Step]) -> float:
    return _sum(steps, "distinct_answers") / max(1, _sum(steps, "answers"))
