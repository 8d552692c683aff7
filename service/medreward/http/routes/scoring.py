"""The routes of docs/api.md. No decisions: those are in the pipeline."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple, TypeVar

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

import medreward
from medreward.admission import Caller, Load, Permit
from medreward.engines.templates import Template
from medreward.errors import Abandoned, InvalidRequest, TemplateUnavailable, TooLarge
from medreward.http import schemas
from medreward.http.bodies import parse, read_body
from medreward.http.openapi import body_schema, refusals
from medreward.http.record import observe_grades, observe_rewards
from medreward.http.responses import (
    json_response,
    judge_provenance,
    judge_reply,
    recipe_reply,
    reward_provenance,
    reward_reply,
    run_reply,
)
from medreward.http.routes.probes import livez, metrics, readyz, startupz
from medreward.parsing.sample import check_modalities
from medreward.pipeline import Trace, grade, score
from medreward.recipes.recipe import Recipe
from medreward.rewards.grade import VIEWS
from medreward.rewards.reward import Reward, Unscored
from medreward.runs.observe import observed
from medreward.runs.watch import MOST_STEPS, RunKey
from medreward.service import Service

BYTES_PER_SAMPLE = 1024
"""Of a body, roughly: how long it takes to read."""

router = APIRouter()
operations = APIRouter()
"""In every role."""
counting = APIRouter()
"""On the admin port alone, where there is one."""

M = TypeVar("M", bound=BaseModel)


class Names(NamedTuple):
    """What a route calls its samples, and the modality of one, where it refuses them."""

    samples: str = "samples"
    modality: Callable[[int], str] = "samples[{}].modality".format


IN_SAMPLES = Names()


def service_of(request: Request) -> Service:
    """Give the service that the app was made for."""
    service: Service = request.app.state.service
    return service


@router.post(
    "/reward",
    tags=["scoring"],
    response_model=schemas.RewardReply,
    responses=refusals(400, 401, 408, 413, 422, 429, 503),
    openapi_extra=body_schema(schemas.RewardRequest),
)
async def reward(request: Request) -> Response:
    """Score samples: one reward each, or the reason there is none."""
    service, trace = service_of(request), Trace()
    with service.admission.permit() as permit:
        asked = await receive(request, schemas.RewardRequest, permit)
        recipe, results = await rewarded(request, asked, permit, trace)
        provenance = reward_provenance(service, recipe)
        return await service.pace.do(
            lambda: reward_reply(asked.samples, results, provenance, trace), len(results)
        )


async def rewarded(
    request: Request,
    asked: schemas.RewardRequest,
    permit: Permit,
    trace: Trace,
    names: Names = IN_SAMPLES,
) -> tuple[Recipe, Sequence[Reward | Unscored]]:
    """Reward the samples of a request that was let in, whichever route it came by."""
    service = service_of(request)
    stages, recipe = service.stages, service.recipe(asked.recipe)
    counts = [len(sample.references) for sample in asked.samples]
    _take_questions(permit, names.samples, counts, service)
    check_modalities(asked.samples, recipe, names.modality)
    _answerable_template(recipe.template, service)
    caller = _caller(request, asked, service)
    results = await score(asked.samples, recipe, stages, caller=caller, trace=trace)
    observe_rewards(service.metrics, recipe, results, trace)
    if asked.run is not None:
        key, step = RunKey(request.state.namespace, asked.run.id), asked.run.step
        seen = observed(asked.samples, results, trace.answers)
        await service.pace.do(lambda: service.runs.observe(key, step, seen), len(results))
    return recipe, results


@router.post(
    "/judge",
    tags=["scoring"],
    response_model=schemas.JudgeReply,
    responses=refusals(400, 401, 408, 413, 422, 429, 503),
    openapi_extra=body_schema(schemas.JudgeRequest),
)
async def judge(request: Request) -> Response:
    """Grade answers against references or rubrics."""
    service, trace = service_of(request), Trace()
    with service.admission.permit() as permit:
        asked = await receive(request, schemas.JudgeRequest, permit)
        stages = service.stages
        _check_votes(asked.votes, service)
        counts = [asked.votes * max(1, len(item.criteria or ())) for item in asked.items]
        _take_questions(permit, "items", counts, service)
        template = _answerable_template(asked.template, service)
        caller = _caller(request, asked, service)
        results = await grade(
            asked.items, template, asked.votes, stages, caller=caller, trace=trace
        )
        provenance = judge_provenance(service, asked.template)
        observe_grades(service.metrics, asked.template, results, trace)
        return await service.pace.do(
            lambda: json_response(judge_reply(asked.items, results, provenance, trace)),
            len(results),
        )


@router.get(
    "/recipes",
    tags=["recipes"],
    response_model=schemas.RecipesReply,
    responses=refusals(401),
)
async def recipes(request: Request) -> Response:
    """List the recipes as they were resolved, with their fingerprints."""
    service = service_of(request)
    return json_response(
        schemas.RecipesReply(
            default=service.settings.recipe,
            recipes=[recipe_reply(service, name) for name in service.recipes],
        )
    )


@router.get(
    "/recipes/{name}",
    tags=["recipes"],
    response_model=schemas.RecipeReply,
    responses=refusals(401, 404),
)
async def recipe(request: Request, name: str) -> Response:
    """Show one recipe as it was resolved, with its fingerprint."""
    return json_response(recipe_reply(service_of(request), name))


@router.get(
    "/runs/{run_id:path}",
    tags=["runs"],
    response_model=schemas.RunReport,
    responses=refusals(401, 404),
)
async def run(request: Request, run_id: str) -> Response:
    """Tell what was seen of a training run, and what of it is worth looking at."""
    service = service_of(request)
    return await service.pace.do(
        lambda: run_reply(service, RunKey(request.state.namespace, run_id)), MOST_STEPS
    )


operations.get(
    "/livez",
    tags=["operations"],
    response_model=schemas.Liveness,
    responses={503: {"model": schemas.Liveness, "description": "The event loop has stalled"}},
)(livez)

operations.get(
    "/readyz",
    tags=["operations"],
    response_model=schemas.Readiness,
    responses={
        503: {"model": schemas.Readiness, "description": "Not ready; says which engine is not"}
    },
)(readyz)

operations.get(
    "/startupz",
    tags=["operations"],
    response_model=schemas.Startup,
    responses={503: {"model": schemas.Startup, "description": "Not ready yet; says how far it is"}},
)(startupz)

counting.get(
    "/metrics",
    tags=["operations"],
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **refusals(401)},
)(metrics)


@operations.get(
    "/version", tags=["operations"], response_model=schemas.Version, responses=refusals(401)
)
async def version() -> Response:
    """Tell the version of the service, and what its numbers are not for."""
    return json_response(schemas.Version(service=medreward.__version__, notice=medreward.NOTICE))


async def receive(request: Request, model: type[M], permit: Permit) -> M:
    """Read a body of which nothing is yet known, as *model*."""
    service = service_of(request)
    # Before a body is taken that could not be answered.
    service.check_open()
    settings = service.settings
    body = await read_body(
        request, permit, max_bytes=settings.max_body_bytes, timeout_s=settings.body_timeout_s
    )
    return await service.pace.do(lambda: parse(model, body), len(body) // BYTES_PER_SAMPLE)


def _take_questions(permit: Permit, field: str, counts: Sequence[int], service: Service) -> None:
    """Bound what is asked: samples by number, and their questions by what the permit can take."""
    limit = service.settings.max_samples
    if len(counts) > limit:
        raise TooLarge(f"{field}: {len(counts)} of them; send at most {limit} at once")
    total, most = sum(counts), service.settings.max_questions_in_flight
    if total > most:
        fitting = sum(so_far <= most for so_far in accumulate(counts))
        raise TooLarge(
            f"{field}: {len(counts)} of them ask {total} questions, and {most} fit at all; "
            f"send at most {fitting} at once"
        )
    permit.take(Load(questions=total))


def _check_votes(votes: int, service: Service) -> None:
    views = len(VIEWS) if service.stages.has_other_engine else len(VIEWS) - 1
    most = min(service.settings.max_votes, views)
    if votes > most:
        raise InvalidRequest(f"votes: {votes} asked for; at most {most} differ here")


def _answerable_template(name: str, service: Service) -> Template:
    template = service.templates[name]
    if not service.engines.judge.can_answer(template):
        raise TemplateUnavailable(
            f"template: this deployment's judge cannot answer {name!r}; "
            "it needs a language model (MEDREWARD_JUDGE)"
        )
    return template


def _caller(
    request: Request, asked: schemas.RewardRequest | schemas.JudgeRequest, service: Service
) -> Caller:
    run = asked.run if isinstance(asked, schemas.RewardRequest) else None
    return Caller(
        deadline=service.deadline(asked.deadline_ms),
        namespace=request.state.namespace,
        run=None if run is None else run.id,
        while_connected=partial(connected, request),
    )


async def connected(request: Request, work: Awaitable[Any]) -> None:
    """Do *work* while the caller waits; when the caller hangs up, stop it.

    Raises:
        Abandoned: the caller has gone.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Abandoned("the caller hung up before the reply")
        working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
