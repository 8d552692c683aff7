"""Routes in the formats of trainers: each parses its trainer's request, and scores it as `/reward`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import RootModel
from starlette.routing import Route

from medreward.admission import Permit
from medreward.errors import InvalidRequest
from medreward.http import schemas
from medreward.http.bodies import validated
from medreward.http.compat.nemo_gym import aggregated, verified
from medreward.http.compat.rewards import check_zero, logs_of, number_for
from medreward.http.compat.schemas import (
    AggregateReply,
    AggregateRequest,
    OpenRlhfReply,
    OpenRlhfRequest,
    RewardUrlOptions,
    SlimeRequest,
    SlimeUrlOptions,
    UrlOptions,
    VerifyReply,
    VerifyRequest,
)
from medreward.http.compat.texts import response_in, without_end
from medreward.http.intake import Names, receive, reward_job, service_of
from medreward.http.openapi import body_schema, query_schema, refusals
from medreward.http.record import record_rewards
from medreward.http.responses import json_response, plain_json
from medreward.offload import BYTES_PER_SAMPLE
from medreward.pipeline import score
from medreward.recipes.recipe import Recipe
from medreward.rewards.reward import Reward, Unscored
from medreward.samples import Sample

SLIME_WAITS_MS = 120_000
MARGIN_MS = 10_000
"""The default deadline of slime's route is this much shorter than slime's own timeout."""
REFUSALS = refusals(400, 401, 403, 408, 413, 415, 422, 429, 503)
KEY = "A trainer that sends no header has its key at the end of the path: `{path}/<key>`."

router = APIRouter(tags=["trainers"])


@router.post(
    "/compat/openrlhf",
    response_model=OpenRlhfReply,
    responses=REFUSALS,
    description=f"OpenRLHF's remote reward model. {KEY.format(path='/compat/openrlhf')}",
    openapi_extra={**body_schema(OpenRlhfRequest), **query_schema(RewardUrlOptions)},
)
async def openrlhf(request: Request) -> Response:
    """Score for OpenRLHF: a batch, or a single sample."""
    options, service = validated(RewardUrlOptions, dict(request.query_params)), service_of(request)
    with service.admission.permit() as permit:
        body = await receive(request, OpenRlhfRequest, permit)
        size = len(body.queries)
        characters = sum(map(len, body.queries)) + sum(map(len, body.prompts))
        samples = await service.offload.run(
            lambda: _openrlhf_samples(body), max(size, characters // BYTES_PER_SAMPLE)
        )
        names = Names("query", "labels[{}].modality".format)
        recipe, results = await _rewarded(request, samples, options, permit, names)
        return await service.offload.run(
            lambda: _openrlhf_reply(body, recipe, results, options), size
        )


@router.post(
    "/compat/slime",
    response_model=float | dict[str, float],
    responses=REFUSALS,
    description=f"slime's remote reward model. {KEY.format(path='/compat/slime')}",
    openapi_extra={**body_schema(SlimeRequest), **query_schema(SlimeUrlOptions)},
)
async def slime(request: Request) -> Response:
    """Score one sample for slime: a number, or an object if `key` is set."""
    options, service = validated(SlimeUrlOptions, dict(request.query_params)), service_of(request)
    longest_ms = min(round(1000 * service.settings.deadline_s), SLIME_WAITS_MS - MARGIN_MS)
    options = options.model_copy(update={"deadline_ms": options.deadline_ms or longest_ms})
    with service.admission.permit() as permit:
        body = await receive(request, SlimeRequest, permit)
        samples = [Sample(response=without_end(body.response), **dict(body.label))]
        names = Names("response", lambda _: "label.modality")
        recipe, (result,) = await _rewarded(request, samples, options, permit, names)
        reward = number_for(result, recipe, options.on_unscored, name="the sample")
        return plain_json(
            reward if options.key is None else logs_of(result, recipe) | {options.key: reward}
        )


@router.post(
    "/verify",
    response_model=VerifyReply,
    responses=REFUSALS,
    openapi_extra={**body_schema(VerifyRequest), **query_schema(UrlOptions)},
)
async def verify(request: Request) -> Response:
    """Score one rollout for NeMo Gym: returns its row with the reward, or flagged as failed."""
    options, service = validated(UrlOptions, dict(request.query_params)), service_of(request)
    with service.admission.permit() as permit:
        # The row with all its fields, including those that no schema names.
        row = await receive(request, RootModel[dict[str, Any]], permit)
        body = await service.offload.run(lambda: validated(VerifyRequest, row.root), 1)
        samples = [Sample(response=without_end(body.response.text), **body.label)]
        names = Names("response", lambda _: "modality")
        recipe, (result,) = await _rewarded(request, samples, options, permit, names)
        try:
            return plain_json(verified(row.root, result, recipe, service.fingerprint(recipe)))
        except orjson.JSONEncodeError:
            # orjson reads deeper nesting and larger integers than it writes.
            raise InvalidRequest(
                "the row cannot go back: it is nested too deeply, or holds an integer over 64 bits"
            ) from None


@router.post(
    "/aggregate_metrics",
    response_model=AggregateReply,
    responses=REFUSALS,
    openapi_extra=body_schema(AggregateRequest),
)
async def aggregate_metrics(request: Request) -> Response:
    """Describe the rewards of one evaluation for NeMo Gym."""
    with service_of(request).admission.permit() as permit:
        body = await receive(request, AggregateRequest, permit)
        rows = body.verify_responses
        return json_response(
            await service_of(request).offload.run(lambda: aggregated(rows), len(rows))
        )


@router.post("/seed_session", response_model=dict[str, str], responses=refusals(401, 403))
async def seed_session() -> Response:
    """Accept a session of NeMo Gym; the service keeps no state of it."""
    return plain_json({})


@router.get("/reverify_mode", response_model=str, responses=refusals(401, 403))
async def reverify_mode() -> Response:
    """Report to NeMo Gym that a row can be verified again at any time."""
    return plain_json("stateless")


STARLETTE_ROUTES = [
    Route("/compat/openrlhf", openrlhf, methods=["POST"]),
    Route("/compat/slime", slime, methods=["POST"]),
    Route("/verify", verify, methods=["POST"]),
]
"""Routes with a request for each rollout. They answer in place of FastAPI's, which cost more than the
work; the decorators of these three only put them into the OpenAPI document."""


async def _rewarded(
    request: Request, samples: Sequence[Sample], options: UrlOptions, permit: Permit, names: Names
) -> tuple[Recipe, Sequence[Reward | Unscored]]:
    """Score the samples of a trainer as `/reward` does."""
    recipe = service_of(request).recipe(options.recipe)
    if not samples:
        return recipe, []
    _check_needs(recipe)
    body = schemas.RewardRequest(
        samples=tuple(samples),
        recipe=options.recipe,
        run=None if options.run is None else schemas.Run(id=options.run),
        deadline_ms=options.deadline_ms,
    )
    job = reward_job(request, body, permit, names)
    if isinstance(options, RewardUrlOptions):
        check_zero(job.recipe, options.on_unscored)
    # A trainer repeats a refused request as it is. What is judged by the deadline is cached, so a
    # request that is too long for one deadline is finished by its repetitions.
    caller = replace(job.caller, can_split=False)
    results = await score(job.samples, job.recipe, job.context, caller=caller, trace=job.trace)
    await record_rewards(job, results)
    return job.recipe, results


def _check_needs(recipe: Recipe) -> None:
    """Refuse a recipe that compares groups, since no trainer's format has them.

    Raises:
        InvalidRequest: naming the signal; its samples would all be unscored.
    """
    for signal, needs in recipe.needs.items():
        if "groups" in needs:
            raise InvalidRequest(
                f"recipe: {recipe.name!r} has the signal {signal}, which compares whole groups, and "
                "this route's samples have none; use another recipe, or `/reward`"
            )


def _openrlhf_samples(body: OpenRlhfRequest) -> list[Sample]:
    samples = []
    for number, query in enumerate(body.queries):
        response = response_in(query, body.prompts[number])
        if response is None:
            raise InvalidRequest(
                f"query[{number}]: it does not begin with prompts[{number}], not even where "
                "special tokens and white space are left out of both"
            )
        samples.append(Sample(response=response, **dict(body.labels[number])))
    return samples


def _openrlhf_reply(
    body: OpenRlhfRequest,
    recipe: Recipe,
    results: Sequence[Reward | Unscored],
    options: RewardUrlOptions,
) -> Response:
    rewards = [
        number_for(result, recipe, options.on_unscored, name=f"query[{number}]")
        for number, result in enumerate(results)
    ]
    scores = list(map(recipe.to_unit, rewards))
    logs = [logs_of(result, recipe) for result in results]
    if isinstance(body.query, str):
        return plain_json({"rewards": rewards[0], "scores": scores[0], "extra_logs": logs[0]})
    columns = {name: [log[name] for log in logs] for name in ("scored", *recipe.weights)}
    return plain_json({"rewards": rewards, "scores": scores, "extra_logs": columns})
