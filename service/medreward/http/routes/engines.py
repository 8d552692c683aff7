"""Routes of a process that holds one engine for others, with the role `judge` or `embed`.

Requests pass its own cache and batcher, so equal questions of several processes are asked once, in
batches of the engine's size.
"""

import base64
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Literal, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import medreward
from medreward.admission import Caller, Deadline, Load, Permit
from medreward.engines.embedder import Embedder, Vector, pack_vector
from medreward.engines.judge import Inquiry, Judge, Judgement, Reader
from medreward.engines.judges.cascade import (
    has_other_engine,
    identity_for,
    is_for_terms,
    readers_of,
)
from medreward.engines.remote.peer_schemas import (
    EMBED,
    ENGINE,
    JUDGE,
    EngineFacts,
    Question,
    Questions,
    Texts,
)
from medreward.engines.templates import Template
from medreward.errors import InvalidRequest, OtherModel, Problem
from medreward.http.intake import receive, service_of, while_connected
from medreward.http.responses import json_response, plain_json
from medreward.inference.answers import Answers
from medreward.inference.resolver import Resolver
from medreward.service import Service

Q = TypeVar("Q", bound=Hashable)
A = TypeVar("A")


async def judge_facts(request: Request) -> Response:
    """Return the identity, templates and capacity of this process's judge."""
    service = service_of(request)
    service.check_open()
    engine = service.engines.judge
    templates = [t for t in service.templates.values() if engine.can_answer(t)]
    return _facts(
        service,
        "judge",
        engine,
        templates={t.name: t.sha for t in templates},
        identities={t.name: identity_for(engine, t) for t in templates},
        characters=_characters(engine, templates),
        has_other_engine=has_other_engine(engine),
        is_for_terms=is_for_terms(engine),
        judge_exam=service.examiner.exam,
    )


def _characters(judge: Judge, templates: Sequence[Template]) -> dict[str, str]:
    known = {
        t.name: [e.characters if isinstance(e, Reader) else None for e in readers_of(judge, t)]
        for t in templates
    }
    return {
        name: "".join(sorted(frozenset().union(*filter(None, each))))
        for name, each in known.items()
        # An engine without such a list reads all texts.
        if None not in each
    }


async def embedder_facts(request: Request) -> Response:
    """Return the identity and capacity of this process's embedder."""
    service = service_of(request)
    service.check_open()
    return _facts(service, "embed", service.engines.embedder)


def _facts(
    service: Service, role: Literal["judge", "embed"], engine: Judge | Embedder, **of_judge: Any
) -> Response:
    # A process of such a role has no other engine.
    (state,) = service.readiness.engines.values()
    return json_response(
        EngineFacts(
            role=role,
            service=medreward.__version__,
            model=state.model,
            identity=engine.identity,
            **asdict(engine.capacity),
            **of_judge,
        )
    )


async def judge(request: Request) -> Response:
    """Judge inquiries, in order; each gets a judgement or an error."""
    service = service_of(request)
    with service.admission.permit() as permit:
        body = await receive(request, Questions, permit)
        _check_identity(body.identity, service.engines.judge.identity)
        inquiries = await service.offload.run(
            lambda: _inquiries(body, service), len(body.questions)
        )
        answers = await _answers(
            request, permit, service.judge_resolver, inquiries, deadline_ms=body.deadline_ms
        )
        return await service.offload.run(
            lambda: plain_json({"answers": [_said(answers.look(one)) for one in inquiries]}),
            len(inquiries),
        )


async def embed(request: Request) -> Response:
    """Embed texts, in order; each gets a vector or an error."""
    service = service_of(request)
    with service.admission.permit() as permit:
        body = await receive(request, Texts, permit)
        _check_identity(body.identity, service.engines.embedder.identity)
        answers = await _answers(
            request, permit, service.embedder_resolver, body.texts, deadline_ms=body.deadline_ms
        )
        return await service.offload.run(
            lambda: plain_json({"answers": [_row(answers.look(text)) for text in body.texts]}),
            len(body.texts),
        )


async def _answers(
    request: Request,
    permit: Permit,
    resolver: Resolver[Q, A],
    questions: Sequence[Q],
    *,
    deadline_ms: int,
) -> Answers[Q, A]:
    """Resolve questions the same way as those of a sample."""
    permit.take(Load(questions=len(questions)))
    caller = Caller(Deadline.after(deadline_ms / 1000), request.state.namespace)
    look_up = partial(resolver.lookup, questions, caller)
    answers = await service_of(request).offload.run(look_up, len(questions))
    if answers.missing:
        await while_connected(request, resolver.resolve(answers, caller))
    return answers


def _check_identity(meant: str, held: str) -> None:
    if meant != held:
        raise OtherModel(f"identity: this process holds {held}; the caller means another engine")


def _inquiries(body: Questions, service: Service) -> list[Inquiry]:
    judge = service.engines.judge
    named = {t.name: t for t in service.templates.values() if judge.can_answer(t)}
    unknown = {q.template for q in body.questions} - named.keys()
    if unknown:
        raise InvalidRequest(f"questions: this judge answers the templates {', '.join(named)} only")
    return [_inquiry(question, named[question.template]) for question in body.questions]


def _inquiry(sent: Question, template: Template) -> Inquiry:
    question = template.shown(sent.question)
    texts = (sent.answer, sent.reference, question, sent.criterion)
    return Inquiry(template, *texts, sent.view, sent.second)


def _said(answer: Judgement | Problem) -> dict[str, Any]:
    """Return a `Said`: the judgement, or the error in its place."""
    if isinstance(answer, Problem):
        return {"error": {"kind": answer.kind, "message": answer.message}}
    return {
        "probabilities": answer.probabilities,
        "coverage": answer.coverage,
        "threshold": answer.threshold,
        "answered_by": answer.answered_by,
    }


def _row(answer: Vector | Problem) -> dict[str, Any]:
    """Return a `Row`: the vector in base64, or the error in its place."""
    if isinstance(answer, Problem):
        return {"error": {"kind": answer.kind, "message": answer.message}}
    return {"vector": base64.b64encode(pack_vector(answer)).decode("ascii")}


ROUTES_BY_ROLE: Mapping[str, Sequence[Route]] = {
    "judge": [Route(ENGINE, judge_facts), Route(JUDGE, judge, methods=["POST"])],
    "embed": [Route(ENGINE, embedder_facts), Route(EMBED, embed, methods=["POST"])],
}
"""The routes of each role that holds one engine for others."""
