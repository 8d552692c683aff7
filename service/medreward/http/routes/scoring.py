"""Routes of docs/api.md. They decide nothing about a score: that is the pipeline's part."""

from functools import partial

from fastapi import APIRouter, Request, Response
from starlette.routing import Route

import medreward
from medreward.engines.status import Readiness, Startup
from medreward.errors import NotFound
from medreward.http import schemas
from medreward.http.intake import judge_job, receive, reward_job, service_of
from medreward.http.openapi import body_schema, refusals
from medreward.http.record import record_grades, record_rewards
from medreward.http.responses import (
    json_response,
    judge_reply,
    recipe_reply,
    reward_reply,
    run_reply,
)
from medreward.http.routes.probes import livez, metrics, readyz, startupz
from medreward.pipeline import grade, score
from medreward.runs.report import RunReport
from medreward.runs.watch import MOST_STEPS, RunKey

router = APIRouter()
operations = APIRouter()
"""Routes of every role."""
counting = APIRouter()
"""Routes that move to the admin port if one is configured."""


@router.post(
    "/reward",
    tags=["scoring"],
    response_model=schemas.RewardReply,
    responses=refusals(400, 401, 403, 408, 413, 415, 422, 429, 503),
    openapi_extra=body_schema(schemas.RewardRequest),
)
async def reward(request: Request) -> Response:
    """Score samples: each gets a reward, or the problem in its place."""
    service = service_of(request)
    # The permit is held until the response is built, since until then the request holds memory.
    with service.admission.permit() as permit:
        body = await receive(request, schemas.RewardRequest, permit)
        job = reward_job(request, body, permit)
        results = await score(
            job.samples, job.recipe, job.context, caller=job.caller, trace=job.trace
        )
        await record_rewards(job, results)
        size = len(results) + sum(len(result.criteria or ()) for result in results) // 4
        return await service.offload.run(partial(reward_reply, job, results), size)


@router.post(
    "/judge",
    tags=["scoring"],
    response_model=schemas.JudgeReply,
    responses=refusals(400, 401, 403, 408, 413, 415, 422, 429, 503),
    openapi_extra=body_schema(schemas.JudgeRequest),
)
async def judge(request: Request) -> Response:
    """Grade answers against references or rubrics."""
    service = service_of(request)
    with service.admission.permit() as permit:
        body = await receive(request, schemas.JudgeRequest, permit)
        job = judge_job(request, body, permit)
        results = await grade(
            job.items,
            job.template,
            job.votes,
            job.rules,
            job.context,
            caller=job.caller,
            trace=job.trace,
        )
        record_grades(job, results)
        return await service.offload.run(partial(judge_reply, job, results), len(results))


STARLETTE_ROUTES = [
    Route("/reward", reward, methods=["POST"]),
    Route("/judge", judge, methods=["POST"]),
]
"""They answer in place of FastAPI's routes, which cost three times as much a request; the decorators
above only put the two into the OpenAPI document."""


@router.get(
    "/recipes", tags=["recipes"], response_model=schemas.RecipesReply, responses=refusals(401, 403)
)
async def recipes(request: Request) -> Response:
    """List the recipes as they were resolved, with their fingerprints."""
    service = service_of(request)
    return json_response(
        schemas.RecipesReply(
            default=service.settings.recipe,
            recipes=[recipe_reply(service, recipe) for recipe in service.recipes.values()],
        )
    )


@router.get(
    "/recipes/{name}",
    tags=["recipes"],
    response_model=schemas.RecipeReply,
    responses=refusals(401, 403, 404),
)
async def recipe(request: Request, name: str) -> Response:
    """Show one recipe as it was resolved, with its fingerprint."""
    service = service_of(request)
    if name not in service.recipes:
        raise NotFound(f"no recipe of that name; choose from {', '.join(service.recipes)}")
    return json_response(recipe_reply(service, service.recipes[name]))


@router.get(
    "/runs/{run_id:path}",
    tags=["runs"],
    response_model=RunReport,
    responses=refusals(401, 403, 404),
)
async def run(request: Request, run_id: str) -> Response:
    """Report the statistics of a training run, with alerts about suspicious changes."""
    service = service_of(request)
    key = RunKey(request.state.namespace, run_id)
    return await service.offload.run(partial(run_reply, service, key), MOST_STEPS)


operations.get(
    "/livez",
    tags=["operations"],
    response_model=schemas.Liveness,
    responses={503: {"model": schemas.Liveness, "description": "The event loop has stalled"}},
)(livez)

operations.get(
    "/readyz",
    tags=["operations"],
    response_model=Readiness,
    responses={503: {"model": Readiness, "description": "Not ready; says which engine is not"}},
)(readyz)

operations.get(
    "/startupz",
    tags=["operations"],
    response_model=Startup,
    responses={503: {"model": Startup, "description": "Not ready yet; says how far it is"}},
)(startupz)

counting.get(
    "/metrics",
    tags=["operations"],
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **refusals(401, 403)},
)(metrics)


@operations.get(
    "/version", tags=["operations"], response_model=schemas.Version, responses=refusals(401, 403)
)
async def version() -> Response:
    """Report the version of the service, and the notice on the use of its rewards."""
    return json_response(schemas.Version(service=medreward.__version__, notice=medreward.NOTICE))
