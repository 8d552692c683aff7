"""A judge without a model, for demonstrations and tests, with verdicts from a script."""

from collections import deque
from collections.abc import Mapping, Sequence

from medreward.engines.capacity import Capacity, Resident
from medreward.engines.judge import Inquiry, Judgement
from medreward.engines.templates import Template
from medreward.errors import Problem

BATCHES_KEPT = 100

Line = str | Judgement | Problem


class ScriptedJudge(Resident):
    """Looks verdicts up by (answer, reference), with a default; keeps the latest batches."""

    def __init__(
        self,
        script: Mapping[tuple[str, str | None], Line] | None = None,
        *,
        default: Line | None = None,
        batch: int = 64,
    ) -> None:
        self._script = dict(script or {})
        self._default = default
        self.identity = "scripted"
        self.capacity = Capacity(batch=batch)
        self.batches: deque[list[Inquiry]] = deque(maxlen=BATCHES_KEPT)

    def can_answer(self, template: Template) -> bool:
        """Return True for every template."""
        return bool(template.labels)

    async def decide(self, inquiries: Sequence[Inquiry]) -> Sequence[Judgement | Problem]:
        """Look up each inquiry's line."""
        self.batches.append(list(inquiries))
        return [self._read(inquiry) for inquiry in inquiries]

    def _read(self, inquiry: Inquiry) -> Judgement | Problem:
        line = self._script.get((inquiry.answer, inquiry.reference), self._default)
        if line is None:
            line = _plain_opinion(inquiry)
        return line if not isinstance(line, str) else certain(inquiry.template, line)


def certain(template: Template, label: str) -> Judgement:
    """Build a judgement with the probability 1 for *label*."""
    return Judgement(
        template.labels, tuple(float(label == other) for other in template.labels), coverage=1.0
    )


def _plain_opinion(inquiry: Inquiry) -> str:
    """Return the best label if the words are the same in any case, otherwise the worst."""
    same = inquiry.answer.casefold().split() == (inquiry.reference or "").casefold().split()
    template = inquiry.template
    graded = template.labels[-1], template.labels[0]
    best, worst = ("YES", "NO") if template.kind == "verdict" else graded
    return best if same else worst
