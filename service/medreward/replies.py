"""Stage 8: results and refusals become reply bodies."""

import math
from collections.abc import Sequence
from typing import Final

from pydantic import BaseModel
from starlette.responses import Response

import medreward
from medreward import errors, wire
from medreward.grading import Ballot, CriterionVerdict, Grade, Ungraded
from medreward.pipeline import Trace
from medreward.recipe import Recipe
from medreward.reward import Component, Reward, Unscored
from medreward.service import Service

JSON: Final = "application/json"


def json_response(body: BaseModel, status: int = 200) -> Response:
    """Write a body as JSON."""
    return Response(body.model_dump_json(), status_code=status, media_type=JSON)


def reward_reply(
    samples: Sequence[wire.Sample],
    results: Sequence[Reward | Unscored],
    provenance: wire.RewardProvenance,
    trace: Trace,
) -> wire.RewardReply:
    """Write the reply of `/reward`."""
    scored = sum(isinstance(result, Reward) for result in results)
    sources = [part.signal.source for result in results for part in result.components.values()]
    return wire.RewardReply(
        results=[_sample_result(s, r) for s, r in zip(samples, results, strict=True)],
        counts=wire.RewardCounts(
            scored=scored,
            unscored=len(results) - scored,
            cache_hits=sources.count("cache"),
            coalesced=sources.count("coalesced"),
            judge_calls=trace.judge.asked,
        ),
        provenance=provenance,
        timings_ms=_timings(trace),
    )


def judge_reply(
    items: Sequence[wire.Item],
    results: Sequence[Grade | Ungraded],
    provenance: wire.JudgeProvenance,
    trace: Trace,
) -> wire.JudgeReply:
    """Write the reply of `/judge`."""
    grades = [result for result in results if isinstance(result, Grade)]
    sources = [ballot.answered.source for result in results for ballot in result.ballots]
    sources += [judged.source for grade in grades for judged in grade.criteria or ()]
    return wire.JudgeReply(
        results=[_item_result(item, r) for item, r in zip(items, results, strict=True)],
        counts=wire.JudgeCounts(
            judged=len(grades),
            unjudged=len(results) - len(grades),
            cache_hits=sources.count("cache"),
            coalesced=sources.count("coalesced"),
            judge_calls=trace.judge.asked,
        ),
        provenance=provenance,
        timings_ms=_timings(trace),
    )


def reward_provenance(service: Service, recipe: Recipe) -> wire.RewardProvenance:
    """Say what a reward depends on."""
    return wire.RewardProvenance(
        recipe=recipe.name,
        fingerprint=service.fingerprint(recipe),
        judge=service.engines.judge.identity,
        embedder=service.engines.embedder.identity,
        service=medreward.__version__,
    )


def judge_provenance(service: Service, template: str) -> wire.JudgeProvenance:
    """Say what a grade depends on."""
    return wire.JudgeProvenance(
        template=template,
        fingerprint=f"sha256:{service.templates[template].sha}",
        judge=service.engines.judge.identity,
        service=medreward.__version__,
    )


def recipe_reply(service: Service, name: str) -> wire.RecipeReply:
    """Write a recipe as it was resolved."""
    recipe = service.shown_recipe(name)
    return wire.RecipeReply(
        **recipe.model_dump(mode="json", exclude={"signals"}),
        signals={name: signal.model_dump(mode="json") for name, signal in recipe.signals},
        fingerprint=service.fingerprint(recipe),
    )


def error_response(error: errors.RequestError, request_id: str) -> Response:
    """Write a refusal."""
    body = _error_reply(error.kind, str(error), request_id, retryable=error.retryable)
    response = json_response(body, errors.STATUS_OF[type(error)])
    if isinstance(error, errors.Overloaded):
        response.headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    if isinstance(error, errors.Unauthorized):
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def bug_response(request_id: str) -> Response:
    """Write the reply for what should not have happened; it names no cause, which might quote text."""
    message = "an error of ours; the log has it under this request id"
    return json_response(_error_reply("internal", message, request_id, retryable=True), 500)


def _error_reply(kind: str, message: str, request_id: str, *, retryable: bool) -> wire.ErrorReply:
    body = wire.ErrorBody(kind=kind, message=message, retryable=retryable)
    return wire.ErrorReply(error=body, request_id=request_id)


def _sample_result(sample: wire.Sample, result: Reward | Unscored) -> wire.SampleResult:
    components = {name: _component(part) for name, part in result.components.items()}
    flags = list(result.flags)
    if isinstance(result, Reward):
        return wire.SampleResult(
            id=sample.id,
            status="scored",
            reward=result.total,
            components=components,
            flags=flags,
        )
    return wire.SampleResult(
        id=sample.id,
        status="unscored",
        components=components,
        flags=flags,
        error=_problem(result.problem),
    )


def _component(component: Component) -> wire.Component:
    signal = component.signal
    return wire.Component(
        value=signal.value,
        weight=component.weight,
        source=signal.source,
        p_yes=signal.p_yes,
        coverage=signal.coverage,
        cosine=signal.cosine,
    )


def _item_result(item: wire.Item, result: Grade | Ungraded) -> wire.ItemResult:
    votes = [_vote(ballot) for ballot in result.ballots]
    if isinstance(result, Ungraded):
        return wire.ItemResult(
            id=item.id, status="unjudged", votes=votes, error=_problem(result.problem)
        )
    return wire.ItemResult(
        id=item.id,
        status="judged",
        verdict=result.verdict,
        p_yes=result.p_yes,
        score=result.score,
        expected=result.expected,
        votes=votes,
        criteria=None if result.criteria is None else list(map(_criterion, result.criteria)),
        source=result.source,
    )


def _vote(ballot: Ballot) -> wire.Vote:
    value = ballot.answered.value
    if isinstance(value, errors.Problem):
        return wire.Vote(view=ballot.view, error=_problem(value))
    return wire.Vote(
        view=ballot.view,
        verdict=ballot.verdict,
        p_yes=ballot.p_yes,
        source=ballot.answered.source,
    )


def _criterion(judged: CriterionVerdict) -> wire.JudgedCriterion:
    return wire.JudgedCriterion(
        text=judged.criterion.text,
        points=judged.criterion.points,
        verdict=judged.verdict,
        p_yes=judged.p_yes,
        source=judged.source,
    )


def _problem(problem: errors.Problem) -> wire.Problem:
    return wire.Problem(kind=problem.kind, message=problem.message, retryable=problem.retryable)


def _timings(trace: Trace) -> wire.Timings:
    def ms(seconds: float) -> float:
        return round(seconds * 1000, 3)

    return wire.Timings(
        queue=ms(max(trace.judge.queue_s, trace.embed.queue_s)),
        cache=ms(trace.judge.cache_s + trace.embed.cache_s),
        judge=ms(trace.judge.engine_s),
        embed=ms(trace.embed.engine_s),
        total=ms(trace.elapsed_s),
    )
