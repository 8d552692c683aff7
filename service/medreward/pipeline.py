"""The pipeline: samples become rewards, and items become grades, stage by stage.

The routes are in `http/routes/scoring.py`, permits and deadlines in `admission.py`.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import chain
from typing import NamedTuple, TypeVar

from medreward.admission import LONGEST_RETRY_S, SHORTEST_RETRY_S, Caller
from medreward.engines.embedder import Vector
from medreward.engines.judge import Inquiry, Judgement, View
from medreward.engines.templates import Template
from medreward.errors import Overloaded
from medreward.guards.chain import GuardChain
from medreward.inference.answers import Answers, Timings
from medreward.inference.resolver import Resolver
from medreward.offload import BYTES_PER_SAMPLE, SMALL, Offloader
from medreward.parsing.sample import ParsedMemory, ParsedSample, SampleParser
from medreward.recipes.recipe import Recipe
from medreward.rewards.further import FurtherSignals, plan_further
from medreward.rewards.grade import Grade, GradingPlan, Ungraded, grade_item, plan_item
from medreward.rewards.reward import Reward, RewardComposer, Unscored, Views
from medreward.rewards.rubric import characters_of
from medreward.samples import Item, Limits, Sample
from medreward.signals.own import OwnSignals

T = TypeVar("T")

CHARACTERS_PER_CRITERION = BYTES_PER_SAMPLE // 4
"""Characters that are as much work as the verdict on one criterion, beside its text."""
CHARACTERS_PER_PAIR = BYTES_PER_SAMPLE // 4
"""Characters that are as much work as a pair of a group, which asks twice and belongs to two samples."""
MOST_RIVALS = 64
"""More pairs a sample are long work in any case."""


@dataclass(frozen=True, slots=True)
class ScoringContext:
    """The engines behind their caches, and the fixed facts about them; built by `Service`."""

    judge_resolver: Resolver[Inquiry, Judgement]
    embedder_resolver: Resolver[str, Vector]
    templates: Mapping[str, Template]
    limits: Limits
    offload: Offloader
    parsed: ParsedMemory
    readers: Mapping[str, Callable[[str], bool]]
    """Tells whether the engine that answers a template can read a text, by template."""
    has_other_engine: bool
    """True if the judge can ask an engine of another family for its opinion."""
    is_for_terms: bool
    """True if the judge has an engine for terms without a question, and a language model for the rest."""
    answerable: frozenset[str]
    """The templates that the judge can answer."""
    judge_identities: Mapping[str, str]
    """The identity of the engine that answers each template."""
    judge_limits: str | None
    """What the judge cannot read; None for one with a language model."""
    embedder_identity: str
    fingerprints: Mapping[str, str]
    """The fingerprint of each recipe, by name."""
    own_signals: OwnSignals
    """The process that computes the operator's own signals."""


@dataclass
class Trace:
    """The timings of one request."""

    judge: Timings = field(default_factory=Timings)
    embed: Timings = field(default_factory=Timings)
    _started_s: float = field(default_factory=time.perf_counter)

    @cached_property
    def seconds(self) -> dict[str, float]:
        """Seconds by stage; judge and embed run at the same time.

        Fixed when it is first read, so that metrics, spans and the response have the same numbers.
        """
        judge, embed = self.judge, self.embed
        return {
            "queue": max(judge.queue_s, embed.queue_s),
            "cache": judge.cache_s + embed.cache_s,
            "judge": judge.engine_s,
            "embed": embed.engine_s,
            "total": time.perf_counter() - self._started_s,
        }


async def score(
    samples: Sequence[Sample],
    recipe: Recipe,
    context: ScoringContext,
    *,
    caller: Caller,
    trace: Trace,
) -> list[Reward | Unscored]:
    """Turn samples into rewards, in order."""
    parsing = partial(_parse_and_look_up, samples, recipe, context, caller)
    size = _size(samples, (_characters(s, recipe) for s in samples))
    parsed_samples, inquiries, judgements, vectors, further = await _begun_while_connected(
        context, caller, parsing, size
    )
    asked: Iterable[Iterable[Inquiry]] = (chain(*inquiries[parsed]) for parsed in parsed_samples)
    if further is not None and recipe.judged:
        asked = further.inquiries(asked)
    await _check_time(context, judgements, asked, caller)
    await _resolve(context, judgements, vectors, caller)
    if further is not None:
        await _compute_own(further, context, caller)
    trace.judge, trace.embed = judgements.timings, vectors.timings

    composer = RewardComposer(recipe, inquiries, judgements, vectors)
    if recipe.wants_witness and context.has_other_engine:
        composer.opinions = await context.offload.run(
            lambda: context.judge_resolver.lookup(composer.second_opinions(), caller), len(samples)
        )
        await _resolve(context, composer.opinions, None, caller)
        trace.judge += composer.opinions.timings
    composing = partial(composer.rewards, parsed_samples, further)
    # Signals of kinds read whole responses, so a few long ones are long work here, too.
    return await context.offload.run(composing, len(samples) if further is None else size)


def _characters(sample: Sample, recipe: Recipe) -> int:
    """Return the number of characters that are read of a sample, or how many are as much work."""
    read = len(sample.response) + sum(map(len, sample.references))
    if recipe.signals.rubric is not None:
        read += characters_of(sample) + CHARACTERS_PER_CRITERION * len(sample.criteria or ())
    if recipe.signals.group_rank is not None:
        size = min(sample.group_size or 1, MOST_RIVALS)
        read += len(sample.response) + CHARACTERS_PER_PAIR * (size - 1)
    if recipe.kind_signals and sample.extra:
        # What its values take is known only once the signals have read them.
        read += (SMALL + 1) * BYTES_PER_SAMPLE
    return read


async def _compute_own(further: FurtherSignals, context: ScoringContext, caller: Caller) -> None:
    """Let the operator's own signals be computed, while the caller is connected."""
    for name, (known, options) in further.recipe.kind_signals.items():
        if known.path is not None:
            told = [(t.rollout, t.extra) for t in further.told]
            values = context.own_signals.values(name, options, told, caller.deadline)
            further.own[name] = await caller.while_connected(values)


async def _begun_while_connected(
    context: ScoringContext, caller: Caller, work: Callable[[], T], size: int
) -> T:
    """Run work; if it waits for the thread, it is not begun for a caller that has gone."""
    running = context.offload.run(work, size)
    found: T = await (caller.while_connected(running) if size > SMALL else running)
    return found


def _size(things: Sequence[object], characters: Iterable[int]) -> int:
    """Return how many typical samples are as much work."""
    number = len(things)
    # More are long work in any case, and their characters need not be counted.
    return number if number > SMALL else max(number, sum(characters) // BYTES_PER_SAMPLE)


class _ParsedRequest(NamedTuple):
    """Parsed samples, their inquiries, and the answers that this process's memory holds."""

    samples: list[ParsedSample]
    inquiries: dict[ParsedSample, list[Views]]
    """By distinct sample."""
    judgements: Answers[Inquiry, Judgement]
    vectors: Answers[str, Vector]
    further: FurtherSignals | None
    """None if the recipe has only MediX-R1's signals."""


def _parse_and_look_up(
    samples: Sequence[Sample], recipe: Recipe, context: ScoringContext, caller: Caller
) -> _ParsedRequest:
    """Parse samples, and look up their answers in this process's memory."""
    template = context.templates[recipe.template]
    is_judged = recipe.signals.accuracy_llm is not None
    reader = context.readers[template.name] if is_judged else None
    parser = SampleParser(recipe, context.limits, reader, context.parsed)
    parsed_samples = [parser.parse(sample) for sample in samples]
    # Samples with equal texts share a parsed sample, and with it everything that follows.
    distinct = dict.fromkeys(parsed_samples)
    inquiries = {
        parsed: _inquiries(parsed, recipe, template, context.is_for_terms) for parsed in distinct
    }
    further = _further(samples, parsed_samples, recipe, context)
    asked = chain(*chain(*inquiries.values()))
    if further is not None:
        asked = chain(asked, chain.from_iterable(further.inquiries()))
    judgements = context.judge_resolver.lookup(asked, caller)
    vectors = context.embedder_resolver.lookup(_texts(distinct, recipe), caller)
    return _ParsedRequest(parsed_samples, inquiries, judgements, vectors, further)


def _further(
    samples: Sequence[Sample],
    parsed: Sequence[ParsedSample],
    recipe: Recipe,
    context: ScoringContext,
) -> FurtherSignals | None:
    needs_readable = recipe.guards is not None and recipe.guards.needs_readable
    readers = context.readers if needs_readable else {}
    return plan_further(
        samples, parsed, recipe, context.templates, limits=context.limits, readers=readers
    )


async def grade(
    items: Sequence[Item],
    template: Template,
    votes: int,
    rules: GuardChain | None,
    context: ScoringContext,
    *,
    caller: Caller,
    trace: Trace,
) -> list[Grade | Ungraded]:
    """Turn items into grades, in order: plan the inquiries, resolve them, grade."""
    plan = partial(_plan, items, template, votes, rules, context, caller=caller)
    characters = (len(item.answer) + len(item.reference or "") for item in items)
    size = _size(items, characters)
    plans, judgements = await _begun_while_connected(context, caller, plan, size)
    await _check_time(context, judgements, (plan.inquiries for plan in plans), caller)
    await _resolve(context, judgements, None, caller)
    trace.judge = judgements.timings
    return await context.offload.run(
        lambda: [grade_item(plan, judgements) for plan in plans], len(plans)
    )


def _plan(
    items: Sequence[Item],
    template: Template,
    votes: int,
    rules: GuardChain | None,
    context: ScoringContext,
    *,
    caller: Caller,
) -> tuple[list[GradingPlan], Answers[Inquiry, Judgement]]:
    """Plan the grading of items, and look up the answers in this process's memory."""
    reader = context.readers[template.name]
    plans = [
        plan_item(item, template, votes, context.limits, rules, reading=reader) for item in items
    ]
    inquiries = [inquiry for plan in plans for inquiry in plan.inquiries]
    return plans, context.judge_resolver.lookup(inquiries, caller)


async def _resolve(
    context: ScoringContext,
    judgements: Answers[Inquiry, Judgement],
    vectors: Answers[str, Vector] | None,
    caller: Caller,
) -> None:
    """Resolve the missing answers of both engines at once, while the caller is connected."""
    work = []
    if judgements.missing:
        work.append(context.judge_resolver.resolve(judgements, caller))
    if vectors is not None and vectors.missing:
        work.append(context.embedder_resolver.resolve(vectors, caller))
    if work:
        # The answers are filled in place.
        await caller.while_connected(asyncio.gather(*work))


async def _check_time(
    context: ScoringContext,
    judgements: Answers[Inquiry, Judgement],
    asked: Iterable[Iterable[Inquiry]],
    caller: Caller,
) -> None:
    """Check that the judge has time for the inquiries of each sample, before any is asked.

    Raises:
        Overloaded: with the number of samples that the judge has time for.
    """
    resolver = context.judge_resolver
    room = resolver.room(judgements, caller) if caller.can_split else None
    if room is None:
        return
    await resolver.recall(judgements, caller)
    counting = partial(_fitting, asked, resolver.unasked(judgements), room.questions)
    fits, number = await context.offload.run(counting, len(judgements.missing))
    if fits < number:
        raise Overloaded(
            f"the judge answers {room.per_s:.2g} questions a second, and those of {fits} of the "
            f"{number} samples by the deadline in {caller.deadline.left_s:.0f} s; send at most "
            f"{fits} at once, or set a later deadline_ms",
            kind="deadline_too_short",
            fits=fits,
            retry_after_s=min(max(room.wait_s, SHORTEST_RETRY_S), LONGEST_RETRY_S),
        )


def _fitting(
    asked: Iterable[Iterable[Inquiry]], unasked: AbstractSet[Inquiry], most: int
) -> tuple[int, int]:
    """Count the samples, from the first on, that ask at most *most* questions; and all samples.

    One sample cannot be divided, so it fits in any case, and so does one that asks nothing more than
    those before it: all questions about a group are its first sample's.
    """
    seen: set[Inquiry] = set()
    fits = number = 0
    for number, inquiries in enumerate(asked, start=1):
        before = len(seen)
        seen.update(inquiry for inquiry in inquiries if inquiry in unasked)
        is_free = len(seen) == before and fits == number - 1
        if number == 1 or len(seen) <= most or is_free:
            fits = number
    return fits, number


def _inquiries(
    parsed: ParsedSample, recipe: Recipe, template: Template, is_for_terms: bool
) -> list[Views]:
    """Return the inquiries about one sample: one for each reference, or two with both views.

    A language model that answers all questions decides by the pair as written.
    """
    if recipe.signals.accuracy_llm is None or not parsed.needs_models:
        return []
    question = template.shown(parsed.question)
    wants_both = recipe.guards is not None and recipe.guards.both_views and not is_for_terms
    in_both = wants_both and question is not None
    inquiries = [Inquiry(template, parsed.answer, text, question) for text in parsed.references]
    return [
        (inquiry, inquiry._replace(view=View.WITHOUT_QUESTION)) if in_both else (inquiry,)
        for inquiry in inquiries
    ]


def _texts(parsed_samples: Iterable[ParsedSample], recipe: Recipe) -> Iterator[str]:
    if recipe.signals.accuracy_embed is not None:
        for parsed in parsed_samples:
            if parsed.needs_models:
                yield parsed.answer
                yield from parsed.references
