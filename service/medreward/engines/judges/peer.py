"""A judge in another process of ours, of the role `judge`."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from medreward.engines.capacity import Capacity
from medreward.engines.judge import Inquiry, Judgement
from medreward.engines.remote.api_key import ApiKey
from medreward.engines.remote.http_client import AsyncBaseTransport
from medreward.engines.remote.peer import Calls
from medreward.engines.remote.peer_schemas import JUDGE, Judged
from medreward.engines.templates import Template, load_templates
from medreward.errors import BackendDown, NonsenseReply, Problem, ProblemKind
from medreward.offload import Pace


class RoleJudge:
    """Hands inquiries on; model, prompt and calibration are the other process's matter."""

    def __init__(
        self,
        *urls: str,
        api_key: ApiKey | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
        try_timeout_s: float | None = None,
        pace: Pace | None = None,
        transport: AsyncBaseTransport | None = None,
    ) -> None:
        self._pace = pace or Pace()
        self._templates = load_templates()
        self._calls = Calls(
            urls,
            role="judge",
            key=api_key,
            headers=headers,
            timeout_s=timeout_s,
            try_timeout_s=try_timeout_s,
            transport=transport,
        )

    @property
    def identity(self) -> str:
        """That of the engine itself: what is remembered is the same, wherever it runs."""
        return self._calls.facts.identity

    @property
    def capacity(self) -> Capacity:
        """What suits the processes all together."""
        return self._calls.capacity

    @property
    def model(self) -> str:
        """What the engine's model is called there."""
        return self._calls.facts.model

    @property
    def has_other_engine(self) -> bool:
        """Whether a second engine there bears witness."""
        return self._calls.facts.has_other_engine

    def identity_for(self, template: Template) -> str:
        """What answers *template* there."""
        return self._calls.facts.identities.get(template.name, self.identity)

    def can_answer(self, template: Template) -> bool:
        """The engine there has to understand it."""
        return self._calls.facts.templates.get(template.name) == template.sha

    async def start(self) -> None:
        """Find out which judge it is.

        Raises:
            EngineError: no process answers yet, or one of another version.
            SetupError: the processes hold different judges.
        """
        facts = await self._calls.start()
        for name, sha in facts.templates.items():
            if name in self._templates and self._templates[name].sha != sha:
                raise BackendDown(
                    f"the judge's process (medreward {facts.service}) has another version of the "
                    f"template {name!r}: upgrade both"
                )

    async def decide(self, inquiries: Sequence[Inquiry]) -> Sequence[Judgement | Problem]:
        """Judge each inquiry.

        Raises:
            EngineError: no process answers.
        """
        body = await self._pace.do(lambda: _body(inquiries), len(inquiries))
        told = await self._calls.ask(JUDGE, body)
        if told is None:
            return await self._decide_halves(inquiries)
        return await self._pace.do(lambda: _read(told, inquiries), len(inquiries))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._calls.aclose()

    async def _decide_halves(self, inquiries: Sequence[Inquiry]) -> list[Judgement | Problem]:
        if len(inquiries) == 1:
            return [Problem(ProblemKind.TOO_LONG, "judge: its process takes no body so large")]
        middle = len(inquiries) // 2
        first, second = await asyncio.gather(
            self.decide(inquiries[:middle]), self.decide(inquiries[middle:])
        )
        return [*first, *second]


def _body(inquiries: Sequence[Inquiry]) -> dict[str, object]:
    questions = [
        {
            "template": inquiry.template.name,
            "answer": inquiry.answer,
            "reference": inquiry.reference,
            "question": inquiry.question,
            "criterion": inquiry.criterion,
            "view": inquiry.view,
        }
        for inquiry in inquiries
    ]
    return {"questions": questions}


def _read(told: Any, inquiries: Sequence[Inquiry]) -> list[Judgement | Problem]:
    try:
        answers = Judged.model_validate(told).answers
    except ValidationError as exc:
        raise NonsenseReply("what the judge's process sent holds no answers") from exc
    if len(answers) != len(inquiries):
        raise NonsenseReply(f"the judge's process gave {len(answers)} answers to {len(inquiries)}")
    return [
        answer.error.problem
        if answer.error is not None
        else Judgement(
            inquiry.template.labels, answer.probabilities, answer.coverage, answer.threshold
        )
        for inquiry, answer in zip(inquiries, answers, strict=True)
    ]
