"""Assertions about what an engine answered, each of which narrows the type for what follows."""

from medreward.engines.judge import Judgement
from medreward.errors import Problem, ProblemKind


def problem(answer: object, kind: ProblemKind) -> Problem:
    """Assert that an answer is a problem of this kind; return it."""
    assert isinstance(answer, Problem)
    assert answer.kind is kind
    return answer


def judgement(answer: object) -> Judgement:
    """Assert that an answer is a judgement; return it."""
    assert isinstance(answer, Judgement)
    return answer
