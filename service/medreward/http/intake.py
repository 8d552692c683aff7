"""The intake of a scoring request: from the open connection to a job that passed every check.

1. The route takes a permit, and holds it from before the body is read until the response is made.
2. `receive` reads the body raw, against the limits, before anything is parsed
   (docs/decisions/0005); so the routes do not take their body from FastAPI.
3. `reward_job` and `judge_job` make every check that can refuse the request, and count its
   questions against the permit. No engine has been asked until then.
4. The job's caller has the deadline, and a wait that ends early if the client hangs up.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from operator import add
from typing import Any, NamedTuple, TypeVar

from fastapi import Request
from pydantic import BaseModel

from medreward.admission import Caller, Load, Permit
from medreward.engines.templates import Template
from medreward.errors import Abandoned, EncodedBody, InvalidRequest, TemplateUnavailable, TooLarge
from medreward.guards.chain import GRADING, GuardChain
from medreward.http.bodies import parse, read_body
from medreward.http.schemas import JudgeRequest, RewardRequest
from medreward.offload import BYTES_PER_SAMPLE, SMALL
from medreward.parsing.references import check_modalities
from medreward.pipeline import ScoringContext, Trace
from medreward.recipes.recipe import Recipe
from medreward.rewards.grade import VIEWS
from medreward.rewards.ranking import counted_by_group
from medreward.rewards.rubric import questions_bytes, questions_of
from medreward.runs.watch import RunKey
from medreward.samples import Item, Sample
from medreward.service import Service

M = TypeVar("M", bound=BaseModel)


class Names(NamedTuple):
    """The names that a refusal uses for the samples, and for the modality of one of them."""

    samples: str = "samples"
    modality: Callable[[int], str] = "samples[{}].modality".format


IN_SAMPLES = Names()


@dataclass(frozen=True, slots=True)
class RewardJob:
    """A request for rewards that passed every check."""

    service: Service
    samples: Sequence[Sample]
    recipe: Recipe
    context: ScoringContext
    caller: Caller
    run: RunKey | None = None
    step: int | None = None
    trace: Trace = field(default_factory=Trace)


@dataclass(frozen=True, slots=True)
class JudgeJob:
    """A request for grades that passed every check."""

    service: Service
    items: Sequence[Item]
    template: Template
    votes: int
    rules: GuardChain | None
    """Rules and guards in front of the judge."""
    context: ScoringContext
    caller: Caller
    trace: Trace = field(default_factory=Trace)


def service_of(request: Request) -> Service:
    """Return the service behind the app that received *request*."""
    service: Service = request.app.state.service
    return service


async def receive(request: Request, model: type[M], permit: Permit) -> M:
    """Read the request's body, and parse it as *model*.

    Raises:
        RequestError: the service is not ready, or the body is compressed, too large, too slow or
            invalid.
    """
    service = service_of(request)
    # First, so that a draining or loading process refuses at once. A body takes time and permit
    # bytes to read, and could not be scored anyway.
    service.check_open()
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise EncodedBody("Content-Encoding: send the body as it is, without this header")
    settings = service.settings
    body = await read_body(
        request, permit, max_bytes=settings.max_body_bytes, timeout_s=settings.body_timeout_s
    )
    size = len(body) // BYTES_PER_SAMPLE
    parsing = service.offload.run(
        partial(parse, model, body, max_samples=settings.max_samples), size
    )
    # Callers that have gone must not keep the thread from those who wait.
    parsed: M = await (while_connected(request, parsing) if size > SMALL else parsing)
    return parsed


def reward_job(
    request: Request, body: RewardRequest, permit: Permit, names: Names = IN_SAMPLES
) -> RewardJob:
    """Check a request for rewards; nothing is scored if anything in it is refused.

    Raises:
        RequestError: naming the field, and the sample if it is one.
    """
    service = service_of(request)
    context, recipe = service.context, service.recipe(body.recipe)
    counts = [1 if isinstance(s.reference, str) else len(s.reference) for s in body.samples]
    if recipe.signals.rubric is not None:
        counts = list(map(add, counts, map(questions_of, body.samples)))
        written = sum(questions_bytes(sample, context.limits) for sample in body.samples)
        permit.take(Load(body_bytes=written))
    if recipe.signals.group_rank is not None:
        counts = counted_by_group(body.samples, counts, recipe.signals.group_rank.most_pairs)
    _take_questions(service, permit, names.samples, counts)
    check_modalities(body.samples, recipe, names.modality)
    for signal, template in service.unanswerable(recipe).items():
        raise TemplateUnavailable(
            f"recipe: {recipe.name!r} has the signal {signal}, and {_cannot_answer(template)}"
        )
    namespace, run = request.state.namespace, body.run
    return RewardJob(
        service=service,
        samples=body.samples,
        recipe=recipe,
        context=context,
        caller=_caller(request, body.deadline_ms),
        run=None if run is None else RunKey(namespace, run.id),
        step=None if run is None else run.step,
    )


def judge_job(request: Request, body: JudgeRequest, permit: Permit) -> JudgeJob:
    """Check a request for grades; nothing is graded if anything in it is refused.

    Raises:
        RequestError: naming the field.
    """
    service = service_of(request)
    context, template = service.context, service.templates[body.template]
    views = len(VIEWS) if context.has_other_engine else len(VIEWS) - 1
    most = min(service.settings.max_votes, views)
    if body.votes > most:
        raise InvalidRequest(f"votes: {body.votes} asked for; at most {most} differ here")
    counts = [body.votes * max(1, len(item.criteria or ())) for item in body.items]
    _take_questions(service, permit, "items", counts)
    if template.name not in context.answerable:
        raise TemplateUnavailable(f"template: {_cannot_answer(template.name)}")
    caller = _caller(request, body.deadline_ms)
    rules = GRADING.get(template.name) if body.rules else None
    return JudgeJob(service, body.items, template, body.votes, rules, context, caller)


def _take_questions(service: Service, permit: Permit, field: str, counts: Sequence[int]) -> None:
    """Check the number of samples, then count their questions against the permit."""
    limit = service.settings.max_samples
    if len(counts) > limit:
        raise TooLarge(f"{field}: {len(counts)} of them; send at most {limit} at once", fits=limit)
    # The permit would refuse this too, but could not name a number of samples that fits.
    total, most = sum(counts), service.settings.max_questions_in_flight
    if total > most:
        fitting = sum(so_far <= most for so_far in accumulate(counts))
        told = f"send at most {fitting} at once"
        if not fitting:
            told = f"the first, with what it cannot be divided from, asks {counts[0]}"
        raise TooLarge(
            f"{field}: {len(counts)} of them ask {total} questions, and {most} fit at all; {told}",
            fits=fitting,
        )
    permit.take(Load(questions=total))


def _cannot_answer(template: str) -> str:
    return (
        f"this deployment's judge cannot answer {template!r}, which needs a language model: use "
        "MEDREWARD_PROFILE=embedded, or set MEDREWARD_LLM or MEDREWARD_JUDGE"
    )


def _caller(request: Request, deadline_ms: int | None) -> Caller:
    return Caller(
        deadline=service_of(request).deadline(deadline_ms),
        namespace=request.state.namespace,
        can_split=True,
        while_connected=partial(while_connected, request),
    )


async def while_connected(request: Request, work: Awaitable[Any]) -> Any:
    """Return what *work* gives while the client is connected; cancel it if the client hangs up.

    Raises:
        Abandoned: the client hung up.
    """
    task = asyncio.ensure_future(work)
    disconnect = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait({task, disconnect}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Abandoned("the caller hung up before the reply")
        return task.result()
    finally:
        # `disconnect` holds nothing, so its end is not awaited. That of `task` is: its `finally`
        # blocks discard queued questions and release leases before the permit is released.
        disconnect.cancel()
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
