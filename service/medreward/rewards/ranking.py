"""The signal `group_rank`: the share of a group's other answers that an answer is better than.

    value = (answers that it beats + half of those that it ties with) / (n - 1)

Source: Pref-GRPO, arXiv 2508.20751, compares the members of a group pairwise and takes the win rate
of each as its reward. Ours: both orders of a pair are asked, and only if they agree is it won; the
cap of pairs; ties count half; and what becomes of failures and of answers that are not judged.

Equal answers are one answer here, which several members gave. Answers are numbered in the order of a
digest, so neither the order of the members nor the replica changes what is compared.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain, islice
from typing import NamedTuple

from medreward.engines.judge import Inquiry, Judgement
from medreward.engines.templates import Template
from medreward.errors import Problem, ProblemKind
from medreward.guards.normal import normal
from medreward.inference.answers import Answered, Answers
from medreward.parsing.references import parse_references
from medreward.parsing.sample import ParsedSample, Reading, unreadable
from medreward.parsing.signal import COST, Signal
from medreward.recipes.recipe import GROUP_RANK, GroupRank, Recipe
from medreward.rewards.groups import Group, Member, groups_of
from medreward.rewards.rubric import ABOUT_THE_TEXTS, unjudged, wordless
from medreward.samples import Limits, Sample, Source, too_long

MOST_FAILED = 0.5
"""Share of an answer's pairs that may fail; with more, its members are left out of the group."""

Pair = tuple[int, int]
"""The numbers of two answers."""
Outcome = float | Problem
"""What a pair is worth to its first answer: 1 if it won, 0 if it lost, one half if they tie."""


class Compared(NamedTuple):
    """What was compared in one group."""

    compared: int
    """Pairs of different answers with an outcome."""
    of: int
    """All pairs of different answers that the judge could have been asked about."""
    intransitive: int
    """Triples of answers of which each beats the next one."""


def round_robin(players: int) -> Iterator[Pair]:
    """Yield all pairs of players, round by round; in a round each plays once, one of an odd number not.

    So after any number of pairs the players have had as many, give or take two.
    """
    seats: list[int | None] = list(range(players))
    if players % 2:
        seats.append(None)
    for _ in range(len(seats) - 1):
        for one, other in zip(seats[: len(seats) // 2], reversed(seats), strict=False):
            if one is not None and other is not None:
                yield one, other
        seats.insert(1, seats.pop())


ALONE = Problem(
    ProblemKind.JUDGE_ABSTAINED,
    "group: no other answer of it could be judged, to compare this with",
)


def values_of(
    members: Sequence[int], beaten: int, outcomes: Mapping[Pair, Outcome]
) -> list[float | Problem]:
    """Return the value of each answer, or why it is left out of the group.

    *members* gave each answer, and *beaten* is the number of members whose answers are not judged:
    each answer wins against them. If not all pairs were asked, those that were stand for the others.
    """
    worth = _worth(len(members), outcomes)
    kept, problems = _without_failures(worth)
    group = beaten + sum(members[answer] for answer in kept)
    values: list[float | Problem] = []
    for answer, count in enumerate(members):
        if answer in problems or group == 1:
            values.append(problems.get(answer) or next(iter(problems.values()), ALONE))
            continue
        told = {other: o for other, o in worth[answer].items() if other in kept}
        points = sum(members[other] * o for other, o in told.items() if not isinstance(o, Problem))
        weight = sum(members[other] for other, o in told.items() if not isinstance(o, Problem))
        unlike = group - beaten - count
        won = beaten + (count - 1) / 2 + (unlike * points / weight if weight else 0.0)
        values.append(won / (group - 1))
    return values


def _worth(answers: int, outcomes: Mapping[Pair, Outcome]) -> list[dict[int, Outcome]]:
    """Return for each answer what its pairs with others are worth to it."""
    worth: list[dict[int, Outcome]] = [{} for _ in range(answers)]
    for (one, other), outcome in outcomes.items():
        worth[one][other] = outcome
        worth[other][one] = outcome if isinstance(outcome, Problem) else 1.0 - outcome
    return worth


def _without_failures(
    worth: Sequence[Mapping[int, Outcome]],
) -> tuple[set[int], dict[int, Problem]]:
    """Return the answers that stay, and the problems of those with too many failed pairs.

    Those with the largest share go first: one that fails in all its pairs is one failure to each of
    the others, which are fine without it.
    """
    kept, problems = set(range(len(worth))), dict[int, Problem]()
    while len(kept) > 1:
        shares = {answer: _failed_share(worth[answer], kept) for answer in kept}
        worst = max(shares.values())
        if worst <= MOST_FAILED:
            break
        leaving = [answer for answer in sorted(kept) if shares[answer] == worst]
        before = list(problems.values())
        for answer in leaving:
            own = (o for o in worth[answer].values() if isinstance(o, Problem))
            problems[answer] = next(chain(own, before))
        kept.difference_update(leaving)
    return kept, problems


def _failed_share(worth: Mapping[int, Outcome], kept: AbstractSet[int]) -> float:
    """Return the share of failed pairs of an answer; 1 if it was compared with none that is left."""
    told = [isinstance(outcome, Problem) for other, outcome in worth.items() if other in kept]
    return sum(told) / len(told) if told else 1.0


def intransitive(outcomes: Mapping[Pair, Outcome]) -> int:
    """Count the triples of answers of which each beats the next one (Kendall's circular triads)."""
    beats: dict[int, set[int]] = {}
    for (one, other), outcome in outcomes.items():
        if outcome in (0.0, 1.0):
            winner, loser = (one, other) if outcome == 1.0 else (other, one)
            beats.setdefault(winner, set()).add(loser)
    none: set[int] = set()
    ends = (
        one in beats.get(third, none)
        for one, others in beats.items()
        for other in others
        for third in beats.get(other, none)
    )
    return sum(ends) // 3


def whole_groups(samples: Sequence[Sample]) -> tuple[list[list[int]], dict[int, Problem]]:
    """Return the places of the samples of each whole group, and the problems of all other samples."""
    members = [Member(sample.group, sample.group_size, None) for sample in samples]
    groups = {group.id: group for group in groups_of(members)}
    places: dict[str, list[int]] = {}
    problems = {}
    for place, sample in enumerate(samples):
        group = None if sample.group is None else groups.get(sample.group)
        problem = _not_comparable(group)
        if problem is not None or group is None:
            problems[place] = problem or UNDECLARED
        else:
            places.setdefault(group.id, []).append(place)
    return list(places.values()), problems


def _not_whole(told: str) -> Problem:
    return Problem(ProblemKind.GROUP_NOT_WHOLE, f"{told}; the signal {GROUP_RANK} compares a group")


UNDECLARED = _not_whole(
    "group: not declared; give `group` and `group_size`, and send all samples of a group in one request"
)


def _not_comparable(group: Group | None) -> Problem | None:
    if group is None:
        return UNDECLARED
    match group.reason:
        case "sizes_differ":
            return _not_whole("group_size: not the same for all samples of the group; declare one")
        case "too_few":
            told = f"{group.seen} of the {group.size} samples are in the request"
            return _not_whole(f"group: {told}; send all in one")
        case "too_many":
            told = f"{group.seen} samples are in the request, and {group.size} are declared"
            return _not_whole(f"group: {told}; name each group by itself")
    return _not_whole("group: of one sample; sample at least two") if group.size == 1 else None


def heads(groups: Iterable[Sequence[int]], samples: int) -> list[int]:
    """Return for each sample the first one that it cannot be divided from, itself or before it.

    *groups* are the places of their samples, in order. Groups whose samples alternate are one part,
    as is a sample between those of a group.
    """
    ends = {places[0]: places[-1] for places in groups}
    found: list[int] = []
    head, end = 0, -1
    for place in range(samples):
        if place > end:
            head = place
        end = max(end, ends.get(place, place))
        found.append(head)
    return found


def counted_by_group(
    samples: Sequence[Sample], counts: Sequence[int], most_pairs: int
) -> list[int]:
    """Add the most questions of each group to the *counts* of its samples, all at its head.

    So whoever divides a request by them divides no group.
    """
    groups, _ = whole_groups(samples)
    head = heads(groups, len(samples))
    counted = [0] * len(samples)
    for place, count in enumerate(counts):
        counted[head[place]] += count
    for places in groups:
        size = len(places)
        counted[head[places[0]]] += 2 * min(size * (size - 1) // 2, most_pairs)
    return counted


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """A group's answers, and the inquiries about its pairs, or its signals without them."""

    settled: Mapping[int, Signal | Problem]
    """By place: members whose answers are not compared."""
    answers: Sequence[str] = ()
    """The different answers of the others."""
    places: Sequence[Sequence[int]] = ()
    """Places of the members that gave each answer."""
    inquiries: Mapping[Pair, tuple[Inquiry, Inquiry]] | None = None
    """Of each pair, in both orders; None if the group cannot be compared."""

    @property
    def of(self) -> int:
        """Number of pairs of different answers."""
        return len(self.answers) * (len(self.answers) - 1) // 2


@dataclass(frozen=True, slots=True)
class RankPlan:
    """The groups of a request."""

    groups: Sequence[tuple[Sequence[int], GroupPlan]]
    """With the places of their samples."""
    problems: Mapping[int, Problem]
    """Of samples in no whole group, by place."""

    def inquiries(self) -> dict[int, list[Inquiry]]:
        """Return the inquiries of each group, by the place of its first sample."""
        return {
            places[0]: [inquiry for both in (plan.inquiries or {}).values() for inquiry in both]
            for places, plan in self.groups
        }


def plan_ranking(
    samples: Sequence[Sample],
    parsed: Sequence[ParsedSample],
    recipe: Recipe,
    rank: GroupRank,
    template: Template,
    *,
    limits: Limits,
    reading: Reading = None,
) -> RankPlan:
    """Settle what needs no judge; list the inquiries about the pairs of each group."""
    whole, problems = whole_groups(samples)
    return RankPlan(
        [
            (
                places,
                _plan_group(
                    {place: (samples[place], parsed[place]) for place in places},
                    recipe,
                    rank,
                    template,
                    limits=limits,
                    reading=reading,
                ),
            )
            for places in whole
        ],
        problems,
    )


def _plan_group(
    members: Mapping[int, tuple[Sample, ParsedSample]],
    recipe: Recipe,
    rank: GroupRank,
    template: Template,
    *,
    limits: Limits,
    reading: Reading,
) -> GroupPlan:
    asked = {(s.question, parse_references(s, recipe).texts) for s, _ in members.values()}
    (question, references), *others = asked
    reference = "\n".join(text for text in references if text.strip()) or None
    problem = (
        _invalid("its samples differ in question or reference; give each question its own group")
        if others
        else _unusable(question, reference, limits, reading)
    )
    if problem is not None:
        return GroupPlan(dict.fromkeys(members, problem))
    settled: dict[int, Signal | Problem] = {}
    texts: dict[str, str] = {}
    places: dict[str, list[int]] = {}
    for place, (sample, parsed) in members.items():
        rule = wordless(parsed, limits, reading)
        found = unjudged(parsed, recipe, sample.references, question, rule, lowest=0.0)
        if found is not None:
            settled[place] = found
            continue
        answer = parsed.completion.answer.strip() if parsed.completion else ""
        key = " ".join(normal(answer).folded.split())
        places.setdefault(key, []).append(place)
        # Of answers that differ in case or white space, the same one is asked about on every replica.
        texts[key] = min(answer, texts.get(key, answer))
    if len(texts) > 2 * rank.most_pairs:
        told = (
            f"it has {len(texts)} different answers, and the recipe's "
            f"signals.{GROUP_RANK}.most_pairs = {rank.most_pairs} leaves some without a pair; set at "
            f"least {(len(texts) + 1) // 2}"
        )
        return GroupPlan(dict.fromkeys(members, _invalid(told)))
    keys = _shuffled(texts, question, reference)
    answers = [texts[key] for key in keys]
    shown = template.shown(question)
    inquiries = {
        (one, other): (
            Inquiry(template, answers[one], reference, shown, second=answers[other]),
            Inquiry(template, answers[other], reference, shown, second=answers[one]),
        )
        for one, other in islice(round_robin(len(answers)), rank.most_pairs)
    }
    return GroupPlan(settled, answers, [places[key] for key in keys], inquiries)


def _invalid(told: str) -> Problem:
    return Problem(ProblemKind.INVALID_REQUEST, f"group: {told}")


def _unusable(
    question: str | None, reference: str | None, limits: Limits, reading: Reading
) -> Problem | None:
    """Return the problem of a question or reference that the judge cannot be shown."""
    for name, text in (("question", question), ("reference", reference)):
        if text is not None:
            if problem := too_long(name, text, limits):
                return problem
            if reading is not None and not reading(text):
                return unreadable(name)
    return None


def _shuffled(keys: Mapping[str, str], question: str | None, reference: str | None) -> list[str]:
    """Return the keys in an order that depends on all of them alone, so it is the same everywhere."""
    content = repr((question, reference, sorted(keys))).encode("utf-8", "surrogatepass")
    seed = sha256(content).digest()
    return sorted(
        keys, key=lambda key: sha256(seed + key.encode("utf-8", "surrogatepass")).digest()
    )


class Ranked(NamedTuple):
    """The signal of one sample, and what was compared in its group."""

    signal: Signal | Problem
    compared: Compared | None = None
    """None if its group was not compared."""


def rank_samples(plan: RankPlan, judgements: Answers[Inquiry, Judgement]) -> dict[int, Ranked]:
    """Compute the signals of all samples from the judgements, by place."""
    ranked = {place: Ranked(problem) for place, problem in plan.problems.items()}
    for _, group in plan.groups:
        ranked |= _rank_group(group, judgements)
    return ranked


def _rank_group(plan: GroupPlan, judgements: Answers[Inquiry, Judgement]) -> dict[int, Ranked]:
    if plan.inquiries is None:
        return {place: Ranked(signal) for place, signal in plan.settled.items()}
    outcomes: dict[Pair, Outcome] = {}
    sources: dict[int, Source] = {}
    for (one, other), inquiries in plan.inquiries.items():
        both = [judgements.take(inquiry) for inquiry in inquiries]
        outcomes[one, other] = _outcome(both)
        for answer in (one, other):
            told = [source for _, source in both]
            told += [sources[answer]] if answer in sources else []
            sources[answer] = max(told, key=COST.__getitem__)
    outcomes = _with_long_ones(outcomes, plan.answers)
    judged = sum(not isinstance(outcome, Problem) for outcome in outcomes.values())
    compared = Compared(judged, plan.of, intransitive(outcomes))
    beaten = sum(isinstance(signal, Signal) for signal in plan.settled.values())
    values = values_of([len(places) for places in plan.places], beaten, outcomes)
    ranked = {place: Ranked(signal, compared) for place, signal in plan.settled.items()}
    for answer, value in enumerate(values):
        signal = value if isinstance(value, Problem) else _signal(value, sources.get(answer))
        ranked |= dict.fromkeys(plan.places[answer], Ranked(signal, compared))
    return ranked


def _signal(value: float, source: Source | None) -> Signal:
    """Return the signal of an answer; one that the judge was not asked about has no source of its own."""
    return Signal(value, "rule", rule=GROUP_RANK) if source is None else Signal(value, source)


def _outcome(both: Sequence[Answered[Judgement]]) -> Outcome:
    """Return what a pair is worth to its first answer, by the judgements in both orders.

    An order that the judge abstains from makes it a tie.
    """
    values = [value for value, _ in both]
    problems = [value for value in values if isinstance(value, Problem)]
    # An engine's failure first: it may be gone with the next request.
    for problem in sorted(problems, key=lambda p: p.kind in ABOUT_THE_TEXTS):
        if problem.kind is not ProblemKind.JUDGE_ABSTAINED:
            return problem
    if problems:
        return 0.5
    first, second = (isinstance(v, Judgement) and v.verdict == "YES" for v in values)
    return 0.5 + (first - second) / 2


def _with_long_ones(
    outcomes: Mapping[Pair, Outcome], answers: Sequence[str]
) -> dict[Pair, Outcome]:
    """Let the longer answer lose a pair that exceeds the judge's context, if other pairs fit.

    Otherwise a policy would write past the context what loses. If none fits, the question or the
    reference may be the cause.

    The longer answer is the one with more such pairs, since the judge counts tokens: of two answers,
    the one of more bytes may have fewer tokens. Bytes decide if both have as many.
    """
    too_long = [
        pair
        for pair, outcome in outcomes.items()
        if isinstance(outcome, Problem) and outcome.kind is ProblemKind.TOO_LONG
    ]
    if not any(isinstance(outcome, float) for outcome in outcomes.values()):
        return dict(outcomes)
    counts = Counter(chain.from_iterable(too_long))
    sizes = {
        answer: (count, len(answers[answer].encode("utf-8", "surrogatepass")))
        for answer, count in counts.items()
    }
    lost = {
        (one, other): 0.5 + ((sizes[one] < sizes[other]) - (sizes[one] > sizes[other])) / 2
        for one, other in too_long
    }
    return {**outcomes, **lost}
