"""The cases of an audit, by suite: all of them, or a few of each stratum."""

import random
from collections.abc import Iterable, Sequence

from medreward.audit.answers import answers
from medreward.audit.attacks import attacks, items
from medreward.audit.benign import twins
from medreward.audit.cases import Case, Suite
from medreward.audit.pairs import pairs


def cases_of(suites: Iterable[Suite], *, seed: int, limit: int | None) -> list[Case]:
    """Gather the cases of the suites, at most *limit* of each stratum.

    Raises:
        SetupError: a package that pairs are made from is not installed.
    """
    cases = [case for suite in dict.fromkeys(suites) for case in _suite(suite, seed)]
    return cases if limit is None else some_of_each(cases, limit, seed)


def some_of_each(cases: Sequence[Case], limit: int, seed: int) -> list[Case]:
    """Draw at most *limit* cases of each stratum and side, and keep their order."""
    strata: dict[tuple[str, str, bool], list[int]] = {}
    for number, case in enumerate(cases):
        strata.setdefault((case.suite, case.stratum, case.equivalent), []).append(number)
    chance = random.Random(seed)  # noqa: S311 - a reproducible choice, not a secret
    chosen = [
        number
        for numbers in strata.values()
        for number in (chance.sample(numbers, limit) if limit < len(numbers) else numbers)
    ]
    return [cases[number] for number in sorted(chosen)]


def _suite(suite: Suite, seed: int) -> list[Case]:
    match suite:
        case "attack":
            return attacks(items(), seed)
        case "benign":
            return twins()
        case "pair":
            return pairs("validation", seed=seed)
        case "answer":
            return answers()
