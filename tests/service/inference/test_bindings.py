"""The bindings: what the resolver and the batcher see of a judge and of an embedder."""

import math
import struct
from typing import Any

import numpy as np
import pytest

from medreward.engines.embedders.hashed import HashedEmbedder
from medreward.engines.judge import Inquiry, Judgement, View
from medreward.engines.judges.scripted import ScriptedJudge
from medreward.engines.templates import load_templates
from medreward.errors import Problem, ProblemKind
from medreward.inference.bindings import EmbedderBinding, JudgeBinding

JUDGE = JudgeBinding(ScriptedJudge(), timeout_s=5)
EMBEDDER = EmbedderBinding(HashedEmbedder(), timeout_s=5)
INQUIRY = Inquiry(load_templates()["equivalence"], "an answer", "a reference", "a question")
THIRDS = Judgement(INQUIRY.template.labels, (1 / 3, 2 / 3), 0.9)


@pytest.mark.parametrize(
    ("binding", "question", "answer"),
    [(JUDGE, INQUIRY, THIRDS), (EMBEDDER, "text", np.array([0.6, 0.8], dtype=np.float32))],
)
def test_a_fresh_answer_is_what_the_cache_returns(binding: Any, question: Any, answer: Any) -> None:
    """Validation rounds an answer as storing does, and rounding it again changes nothing."""
    valid = binding.validate(answer, question)

    assert binding.pack(valid) == binding.pack(answer)
    assert str(valid) == str(binding.unpack(binding.pack(answer), question))


@pytest.mark.parametrize(
    ("binding", "question", "answer", "kind"),
    [
        (JUDGE, INQUIRY, Judgement(THIRDS.labels, (0.2, 0.2)), ProblemKind.JUDGE_UNPARSEABLE),
        (JUDGE, INQUIRY, "YES", ProblemKind.JUDGE_UNPARSEABLE),
        (JUDGE, INQUIRY, None, ProblemKind.JUDGE_UNPARSEABLE),
        (EMBEDDER, "text", np.zeros(2), ProblemKind.EMBEDDER_UNREACHABLE),
        (EMBEDDER, "text", [0.6, 0.8], ProblemKind.EMBEDDER_UNREACHABLE),
    ],
)
def test_nonsense_is_a_problem(binding: Any, question: Any, answer: Any, kind: ProblemKind) -> None:
    """Also of the wrong type: whatever looking at it raises, its sample has a reason."""
    problem = binding.validate(answer, question)

    assert isinstance(problem, Problem)
    assert problem.kind is kind


def test_inquiries_that_differ_in_the_answer_are_neighbours() -> None:
    """What stands before the answer in a prompt is the same for all rollouts of a question."""
    same, other = INQUIRY._replace(answer="another"), INQUIRY._replace(view=View.SWAPPED)

    assert JUDGE.group(INQUIRY) == JUDGE.group(same) != JUDGE.group(other)
    assert EMBEDDER.group("one") == EMBEDDER.group("other")


def test_tokens_grow_with_the_text() -> None:
    """Four characters count as one, each field of an inquiry included."""
    for field in ("answer", "reference", "question", "criterion"):
        text: dict[str, Any] = {field: "x" * 4000}
        longer = INQUIRY._replace(**text)
        assert JUDGE.tokens(longer) - JUDGE.tokens(INQUIRY) > 990
    assert EMBEDDER.tokens("x" * 4000) == 1002


@pytest.mark.parametrize("coverage", [None, 0.25])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.75, 1.0])
def test_a_judgement_is_remembered_whole(coverage: float | None, threshold: float) -> None:
    """Its probabilities, its coverage and its threshold."""
    judgement = Judgement(THIRDS.labels, (0.625, 0.375), coverage, threshold)

    assert JUDGE.unpack(JUDGE.pack(judgement), INQUIRY) == judgement


@pytest.mark.parametrize(
    "numbers",
    [
        (0.5, 0.5, 0.9),  # as before there was a threshold
        (0.5, 0.5, 0.9, math.nan),
        (0.5, 0.5, 0.9, 0.5, 0.5),
        (0.1, 0.1, 0.2, 0.2, 0.2, 0.2, 1.0, 0.5),  # a grade
        (),
    ],
)
def test_what_another_version_remembered_is_asked_anew(numbers: tuple[float, ...]) -> None:
    """Nothing is guessed of what is missing."""
    assert JUDGE.unpack(struct.pack(f"<{len(numbers)}f", *numbers), INQUIRY) is None
