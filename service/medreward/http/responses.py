"""Response bodies of results and of refused requests."""

import math
from collections.abc import Sequence
from typing import Any, Final

import orjson
from pydantic import BaseModel
from starlette.responses import Response

import medreward
from medreward import errors
from medreward.guards.chain import grading_identity
from medreward.guards.pair import Veto
from medreward.http import schemas
from medreward.http.intake import JudgeJob, RewardJob
from medreward.pipeline import Trace
from medreward.recipes.recipe import UNIT, Recipe
from medreward.rewards.grade import CriterionVerdict, Grade, Ungraded, Vote
from medreward.rewards.groups import Group, Member, groups_of, is_right
from medreward.rewards.reward import Component, Reward, Unscored
from medreward.rewards.rubric import CriterionResult
from medreward.runs.watch import RunKey
from medreward.samples import Item, Sample
from medreward.service import Service

JSON: Final = "application/json"
CRITERION_FIELDS: Final = ("verdict", "choice", "points", "p_yes", "source")


def json_response(body: BaseModel, status: int = 200) -> Response:
    """Write a body as JSON."""
    return Response(body.model_dump_json(), status_code=status, media_type=JSON)


def plain_json(content: object) -> Response:
    """Write plain objects as JSON, which takes less time than a model for each of thousands."""
    return Response(orjson.dumps(content), media_type=JSON)


def reward_reply(job: RewardJob, results: Sequence[Reward | Unscored]) -> Response:
    """Build the response of `/reward`, a `schemas.RewardReply`.

    It is built of plain dictionaries: it has thousands of parts, and a pydantic model for each would
    take longer than scoring them from the cache.
    """
    # Equal samples share one result object, so each object is written once.
    shown = {key: _shown(result) for key, result in {id(r): r for r in results}.items()}
    rows = [{"id": s.id, **shown[id(r)]} for s, r in zip(job.samples, results, strict=True)]
    sources = [part["source"] for row in rows for part in row["components"].values()]
    scored = [row["status"] for row in rows].count("scored")
    exam = job.service.examiner.known
    body: dict[str, Any] = {
        "results": rows,
        "counts": {
            "scored": scored,
            "unscored": len(rows) - scored,
            "cache_hits": sources.count("cache"),
            "coalesced": sources.count("coalesced"),
            "judge_calls": job.trace.judge.asked,
        },
        "provenance": {
            "recipe": job.recipe.name,
            "fingerprint": job.context.fingerprints[job.recipe.name],
            "judge": job.context.judge_identities[job.recipe.template],
            "judge_limits": job.context.judge_limits,
            "embedder": job.context.embedder_identity,
            "service": medreward.__version__,
            "judge_exam": None if exam is None else exam.model_dump(),
        },
        "timings_ms": _timings(job.trace),
    }
    if job.recipe.bounds != UNIT:
        body["range"] = job.recipe.bounds
    if any(sample.group_size is not None for sample in job.samples):
        body["groups"] = _compare_in_groups(job, results, rows)
    return plain_json(body)


def _compare_in_groups(
    job: RewardJob, results: Sequence[Reward | Unscored], rows: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Add `relative` to each row, and return the groups as `schemas.GroupResult`."""
    most = job.recipe.bounds[1]
    members = [_member(s, r, most) for s, r in zip(job.samples, results, strict=True)]
    groups = groups_of(members)
    spreads = {group.id: group.spread for group in groups}
    for row, member in zip(rows, members, strict=True):
        spread = None if member.group is None else spreads.get(member.group)
        row["relative"] = (
            None if spread is None or member.reward is None else spread.relative(member.reward)
        )
    rows_of_groups = list(map(_group, groups))
    if job.recipe.signals.group_rank is not None:
        compared = {s.group: r.compared for s, r in zip(job.samples, results, strict=True)}
        for row in rows_of_groups:
            rank = compared[row["id"]]
            if rank is not None:
                row["rank"] = rank._asdict()
    return rows_of_groups


def _member(sample: Sample, result: Reward | Unscored, most: float) -> Member:
    if isinstance(result, Unscored):
        return Member(sample.group, sample.group_size, None)
    values = {name: part.signal.value for name, part in result.components.items()}
    right = is_right(result.total, values, most)
    return Member(sample.group, sample.group_size, result.total, right)


def _group(group: Group) -> dict[str, Any]:
    """Return a `schemas.GroupResult`."""
    mean, sd = group.spread or (None, None)
    return {
        "id": group.id,
        "size": group.size,
        "seen": group.seen,
        "scored": group.scored,
        "whole": group.reason is None,
        "reason": group.reason,
        "all_right": group.all_right,
        "mean": mean,
        "sd": sd,
    }


def judge_reply(job: JudgeJob, results: Sequence[Grade | Ungraded]) -> Response:
    """Build the response of `/judge`, a `schemas.JudgeReply`."""
    grades = [result for result in results if isinstance(result, Grade)]
    sources = [vote.answered.source for result in results for vote in result.votes]
    sources += [judged.source for grade in grades for judged in grade.criteria or ()]
    body = schemas.JudgeReply(
        results=[_item_result(item, r) for item, r in zip(job.items, results, strict=True)],
        counts=schemas.JudgeCounts(
            judged=len(grades),
            unjudged=len(results) - len(grades),
            cache_hits=sources.count("cache"),
            coalesced=sources.count("coalesced"),
            judge_calls=job.trace.judge.asked,
        ),
        provenance=schemas.JudgeProvenance(
            template=job.template.name,
            fingerprint=f"sha256:{job.template.sha}",
            judge=job.context.judge_identities[job.template.name],
            judge_limits=job.context.judge_limits,
            rules=None if job.rules is None else grading_identity(),
            service=medreward.__version__,
            judge_exam=job.service.examiner.known,
        ),
        timings_ms=schemas.Timings(**_timings(job.trace)),
    )
    return json_response(body)


def recipe_reply(service: Service, recipe: Recipe) -> schemas.RecipeReply:
    """Return a recipe as it was resolved, with its fingerprint."""
    return schemas.RecipeReply(
        **recipe.model_dump(mode="json", exclude={"signals", "range"}),
        range=recipe.bounds,
        signals={name: signal.model_dump(mode="json") for name, signal in recipe.signals},
        needs={name: list(needs) for name, needs in recipe.needs.items()},
        fingerprint=service.fingerprint(recipe),
    )


def error_response(error: errors.RequestError, request_id: str) -> Response:
    """Build the response to a refused request."""
    body = _error_reply(
        error.kind, str(error), request_id, retryable=error.retryable, fits=error.fits
    )
    response = json_response(body, errors.STATUS_OF[type(error)])
    if isinstance(error, errors.Overloaded | errors.NotReady):
        response.headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    if isinstance(error, errors.Unauthorized):
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def bug_response(request_id: str) -> Response:
    """Build the response to an unexpected error, without its cause, which might quote a sample."""
    message = "an error of ours; the log has it under this request id"
    return json_response(_error_reply("internal", message, request_id, retryable=True), 500)


def _error_reply(
    kind: str, message: str, request_id: str, *, retryable: bool, fits: int | None = None
) -> schemas.ErrorReply:
    body = schemas.ErrorBody(kind=kind, message=message, retryable=retryable, fits=fits)
    return schemas.ErrorReply(error=body, request_id=request_id)


def _shown(result: Reward | Unscored) -> dict[str, Any]:
    """Return a `schemas.SampleResult` without its id."""
    reward, error = (result.total, None) if isinstance(result, Reward) else (None, result.problem)
    shown: dict[str, Any] = {
        "status": "scored" if error is None else "unscored",
        "reward": reward,
        "components": {name: _component(part) for name, part in result.components.items()},
        "flags": result.flags,
        "error": None if error is None else _problem(error).model_dump(),
    }
    if result.criteria is not None:
        shown["criteria"] = list(map(_criterion_result, result.criteria))
        shown["unanswered"] = sum(c.problem is not None for c in result.criteria)
    return shown


def _criterion_result(result: CriterionResult) -> dict[str, Any]:
    """Return a `schemas.CriterionResult`."""
    problem = result.problem
    error = None if problem is None else _problem(problem).model_dump()
    return {name: getattr(result, name) for name in CRITERION_FIELDS} | {"error": error}


def _component(component: Component) -> dict[str, Any]:
    """Return a `schemas.Component`."""
    (value, source, p_yes, coverage, cosine, veto, rule, answered_by), weight = component
    return {
        "value": value,
        "weight": weight,
        "source": source,
        "p_yes": p_yes,
        "coverage": coverage,
        "cosine": cosine,
        "veto": None if veto is None else _veto(veto),
        "rule": rule,
        "answered_by": answered_by,
    }


def _veto(veto: Veto) -> dict[str, Any]:
    """Return a `schemas.Veto`; its spans become lists, since orjson rejects named tuples."""
    against = veto.reference_span
    return {
        "rule": veto.rule,
        "span": list(veto.span),
        "reference_span": None if against is None else list(against),
    }


def _item_result(item: Item, result: Grade | Ungraded) -> schemas.ItemResult:
    votes = [_vote(vote) for vote in result.votes]
    if isinstance(result, Ungraded):
        return schemas.ItemResult(
            id=item.id, status="unjudged", votes=votes, error=_problem(result.problem)
        )
    return schemas.ItemResult(
        id=item.id,
        status="judged",
        verdict=result.verdict,
        p_yes=result.p_yes,
        score=result.score,
        expected=result.expected,
        votes=votes,
        criteria=None if result.criteria is None else list(map(_criterion, result.criteria)),
        source=result.source,
        rule=result.rule,
        veto=None if result.veto is None else schemas.Veto.model_validate(_veto(result.veto)),
    )


def _vote(vote: Vote) -> schemas.Vote:
    value = vote.answered.value
    problem = value if isinstance(value, errors.Problem) else None
    return schemas.Vote(
        view=vote.view,
        verdict=vote.verdict,
        p_yes=vote.p_yes,
        source=None if problem else vote.answered.source,
        answered_by=None if isinstance(value, errors.Problem) else value.answered_by,
        error=None if problem is None else _problem(problem),
    )


def _criterion(judged: CriterionVerdict) -> schemas.JudgedCriterion:
    return schemas.JudgedCriterion(
        text=judged.criterion.text,
        points=judged.criterion.points,
        verdict=judged.verdict,
        p_yes=judged.p_yes,
        source=judged.source,
    )


def _problem(problem: errors.Problem) -> schemas.Problem:
    return schemas.Problem(kind=problem.kind, message=problem.message, retryable=problem.retryable)


def _timings(trace: Trace) -> dict[str, float]:
    """Return a `schemas.Timings`, in milliseconds."""
    return {stage: round(1000 * seconds, 3) for stage, seconds in trace.seconds.items()}


def run_reply(service: Service, key: RunKey) -> Response:
    """Build the response with the report of a run.

    Raises:
        errors.NotFound: no samples of that run came with this key, or none for so long that its
            report was dropped.
    """
    report = service.runs.report(key)
    if report is None:
        raise errors.NotFound("no run of that id; one is known by the `run` of its samples")
    return json_response(report)
