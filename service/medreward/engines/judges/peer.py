"""A judge in other processes of the same service, with the role `judge`."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from medreward.engines.judge import Inquiry, Judgement
from medreward.engines.prompts.tokenization import can_read
from medreward.engines.remote.peer import Peer
from medreward.engines.remote.peer_schemas import JUDGE, Judged
from medreward.engines.templates import Template, load_templates
from medreward.errors import JUDGE_FAILURES, BackendDown, Problem


class RoleJudge(Peer[Inquiry, Judgement]):
    """Sends inquiries to the processes that hold model, prompt and calibration."""

    role = "judge"
    path = JUDGE
    failures = JUDGE_FAILURES

    @property
    def has_other_engine(self) -> bool:
        """True if a second engine in that process is trusted with second opinions."""
        return self.facts.has_other_engine

    @property
    def is_for_terms(self) -> bool:
        """True if a first engine in that process is asked about terms alone."""
        return self.facts.is_for_terms

    def identity_for(self, template: Template) -> str:
        """Return the identity of the engine that answers *template* in that process."""
        return self.facts.identities.get(template.name, self.identity)

    def reader_for(self, template: Template) -> Callable[[str], bool]:
        """Return the function that tells whether the engine for *template* can read a text."""
        known = self.facts.characters.get(template.name)
        return partial(can_read, characters=None if known is None else frozenset(known))

    def can_answer(self, template: Template) -> bool:
        """Return True if the engine in that process answers *template*, in the same version."""
        return self.facts.templates.get(template.name) == template.sha

    async def start(self) -> None:
        """Request the description of the judge, as `Peer.start` does, and compare the templates.

        Raises:
            BackendDown: a process has another version of a template.
        """
        await super().start()
        ours = load_templates()
        for name, sha in self.facts.templates.items():
            if name in ours and ours[name].sha != sha:
                raise BackendDown(
                    f"the judge's process (medreward {self.facts.service}) has another version of "
                    f"the template {name!r}: upgrade both"
                )

    async def decide(self, inquiries: Sequence[Inquiry]) -> Sequence[Judgement | Problem]:
        """Judge each inquiry."""
        return await self._answers(inquiries)

    def _body(self, questions: Sequence[Inquiry]) -> dict[str, object]:
        rows = [inquiry._asdict() | {"template": inquiry.template.name} for inquiry in questions]
        return {"questions": rows}

    def _read(self, told: Any, questions: Sequence[Inquiry]) -> list[Judgement | Problem]:
        said = Judged.model_validate(told).answers
        return [
            one.error.problem
            if one.error is not None
            else Judgement(
                inquiry.template.labels,
                one.probabilities,
                one.coverage,
                one.threshold,
                one.answered_by,
            )
            for inquiry, one in zip(questions, said, strict=True)
        ]
