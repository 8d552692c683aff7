"""The report card: statistics of an audit's outcomes. Pure, and independent of their order."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from medreward.audit.cases import Suite
from medreward.audit.figures import (
    Bin,
    Point,
    Rate,
    area_under_curve,
    mean,
    rate,
    reliability,
    roc,
)
from medreward.audit.fit import quality
from medreward.audit.outcomes import Outcome

SUITES: tuple[Suite, ...] = ("attack", "benign", "pair", "answer")
PARTIAL = frozenset({"parent"})
"""Strata of pairs without a clear truth; they are shown, but are no failures and in no contrast."""
UNREAD: frozenset[Suite] = frozenset({"answer"})
"""Suites whose held-out texts nobody reads, so that nothing is mended by them."""


@dataclass(frozen=True, slots=True)
class Audited:
    """The origin of a report card: everything that its numbers depend on."""

    date: str
    judge: str
    embedder: str
    recipe: str
    recipe_fingerprint: str
    template_fingerprint: str
    service: str
    cases: str
    """Description of the chosen cases."""
    rules: str | None = None
    """The rules and guards in front of the judge of `/judge`."""


@dataclass(frozen=True, slots=True)
class Stratum:
    """The cases of one kind whose right verdict is the same."""

    suite: Suite
    name: str
    title: str
    """The name, followed by the side if the stratum has cases of both."""
    is_equivalent: bool
    yes: Rate
    """Verdicts YES of the judge alone, among all its verdicts."""
    graded: Rate
    """Verdicts YES with the rules of `/judge` in front of the judge."""
    paid: Rate
    """Answers that the recipe treated as right, among all cases that were not lost."""
    paid_known: Rate
    paid_held_out: Rate
    refused: Rate
    """Answers that a rule rejected without a model call, among all cases that were not lost."""
    mean_reward: float | None
    unjudged: Mapping[str, int]
    unscored: Mapping[str, int]
    cases: int

    @property
    def is_partial(self) -> bool:
        """True if the right verdict is a matter of policy."""
        return self.name in PARTIAL


@dataclass(frozen=True, slots=True)
class Contrast:
    """The judge's separation of different pairs, or wrong answers, from equivalent ones."""

    suite: Suite
    name: str
    equivalent: int
    different: int
    curve: Sequence[Point]
    auc: float
    bins: Sequence[Bin]
    ece: float
    brier: float
    false_positives: Rate
    """Verdicts YES among different pairs."""
    false_negatives: Rate
    """Verdicts NO among equivalent pairs."""


class Failures(NamedTuple):
    """The cases of a stratum that the judge or the recipe got wrong."""

    suite: Suite
    title: str
    total: int
    worst: Sequence[Outcome]
    """The shown ones; none that is held out from reading."""


@dataclass(frozen=True, slots=True)
class Card:
    """All figures of the page and the JSON."""

    audited: Audited
    strata: Sequence[Stratum]
    contrasts: Sequence[Contrast]
    """For pairs and for answers: first the contrast of all, then one for each stratum."""
    failures: Sequence[Failures]
    """Failures by stratum, without strata that have none."""
    lost: Rate
    """Cases whose reward is missing because of an outage."""

    def of_suite(self, suite: Suite) -> list[Stratum]:
        """Return the strata of one suite, sorted by name."""
        return [stratum for stratum in self.strata if stratum.suite == suite]


def make_card(outcomes: Sequence[Outcome], audited: Audited, *, examples: int) -> Card:
    """Compute all figures, and choose up to *examples* failures of each stratum."""
    groups = _groups(outcomes)
    strata = [_stratum(title, members) for title, members in groups]
    return Card(
        audited=audited,
        strata=strata,
        contrasts=[*_contrasts("pair", outcomes), *_contrasts("answer", outcomes)],
        failures=[
            found
            for title, members in groups
            if (found := _failures(title, members, examples)).total
        ],
        lost=rate(outcome.is_lost for outcome in outcomes),
    )


def _groups(outcomes: Iterable[Outcome]) -> list[tuple[str, list[Outcome]]]:
    """Group outcomes into strata, each with its title."""
    groups: dict[tuple[int, str, bool], list[Outcome]] = {}
    for outcome in outcomes:
        case = outcome.case
        key = SUITES.index(case.suite), case.stratum, not case.equivalent
        groups.setdefault(key, []).append(outcome)
    sides = Counter((suite, name) for suite, name, _ in groups)
    titled = []
    for suite, name, is_different in sorted(groups):
        sides_of = ("right", "wrong") if SUITES[suite] == "answer" else ("equivalent", "different")
        title = f"{name} ({sides_of[is_different]})" if sides[suite, name] > 1 else name
        titled.append((title, groups[suite, name, is_different]))
    return titled


def _stratum(title: str, members: Sequence[Outcome]) -> Stratum:
    case = members[0].case
    reached = [outcome for outcome in members if not outcome.is_lost]
    return Stratum(
        suite=case.suite,
        name=case.stratum,
        title=title,
        is_equivalent=case.equivalent,
        yes=rate(o.verdict == "YES" for o in members if o.verdict is not None),
        graded=rate(o.graded == "YES" for o in members if o.graded is not None),
        paid=rate(o.is_paid for o in reached),
        paid_known=rate(o.is_paid for o in reached if not o.case.held_out),
        paid_held_out=rate(o.is_paid for o in reached if o.case.held_out),
        refused=rate(o.refused_by is not None for o in reached),
        mean_reward=mean([o.reward for o in members if o.reward is not None]),
        unjudged=_kinds(o.unjudged for o in members),
        unscored=_kinds(o.unscored for o in members),
        cases=len(members),
    )


def _kinds(problems: Iterable[str | None]) -> dict[str, int]:
    return dict(sorted(Counter(kind for kind in problems if kind is not None).items()))


def _contrasts(suite: Suite, outcomes: Iterable[Outcome]) -> Iterator[Contrast]:
    found = [o for o in outcomes if o.case.suite == suite and o.case.stratum not in PARTIAL]
    decided = [o for o in found if o.p_yes is not None]
    equivalent = [o for o in decided if o.case.equivalent]
    different = [o for o in decided if not o.case.equivalent]
    if not equivalent or not different:
        return
    whole = "all wrong answers" if suite == "answer" else "all different pairs"
    yield _contrast(suite, whole, equivalent, different)
    for name in sorted({o.case.stratum for o in different}):
        right, wrong = ([o for o in of if o.case.stratum == name] for of in (equivalent, different))
        # Right and wrong answers of a stratum are alike; most strata of pairs have one side only.
        right = right if suite == "answer" else equivalent
        if right:
            yield _contrast(suite, name, right, wrong)


def _contrast(
    suite: Suite, name: str, equivalent: Sequence[Outcome], different: Sequence[Outcome]
) -> Contrast:
    # Sorted, since the last digit of a sum depends on the order of its terms, and a card must not
    # depend on the order of its outcomes.
    scored = sorted(
        (o.p_yes, o.case.equivalent) for o in (*equivalent, *different) if o.p_yes is not None
    )
    p, is_yes = np.array([p for p, _ in scored]), np.array([truth for _, truth in scored])
    measured = quality(p, is_yes)
    return Contrast(
        suite=suite,
        name=name,
        equivalent=len(equivalent),
        different=len(different),
        curve=roc(p, is_yes),
        auc=area_under_curve(p[is_yes], p[~is_yes]),
        bins=reliability(p, is_yes),
        ece=measured.ece,
        brier=measured.brier,
        false_positives=rate(o.verdict == "YES" for o in different),
        false_negatives=rate(o.verdict == "NO" for o in equivalent),
    )


def _failures(title: str, members: Sequence[Outcome], most: int) -> Failures:
    """Return the worst failures: wrong payments first, then wrong verdicts, the surest first."""
    case = members[0].case
    is_partial = case.stratum in PARTIAL
    wrong = [o for o in members if not is_partial and (o.is_mispaid or o.is_misjudged)]
    shown = [o for o in wrong if not (o.case.held_out and case.suite in UNREAD)]
    return Failures(case.suite, title, len(wrong), sorted(shown, key=_rank)[:most])


def _rank(outcome: Outcome) -> tuple[bool, float, str, str, str, bool, float]:
    """Return the sort key of a failure; its texts break ties, so the order is reproducible."""
    case = outcome.case
    error = 0.0 if outcome.p_yes is None else abs(outcome.p_yes - case.equivalent)
    texts = case.answer, case.reference, case.question or ""
    return not outcome.is_mispaid, -error, *texts, case.held_out, outcome.p_yes or 0.0
