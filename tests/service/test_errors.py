"""The error tree and its tables are complete."""

from medreward.errors import (
    EMBEDDER_FAILURES,
    JUDGE_FAILURES,
    RETRYABLE,
    STATUS_OF,
    EngineError,
    Problem,
    ProblemKind,
    RequestError,
    TryAgain,
)


def final(error: type[Exception]) -> set[type[Exception]]:
    """The errors that are raised: those below which there are no others."""
    below = error.__subclasses__()
    return set().union(*map(final, below)) if below else {error}


def test_every_refusal_has_a_status() -> None:
    """No error can leave the service without a status code, and no status is without an error."""
    assert final(RequestError) == set(STATUS_OF)


def test_only_refusals_that_pass_are_retryable() -> None:
    """A caller may send the same again exactly where the tree says so."""
    assert {e for e in final(RequestError) if getattr(e, "retryable", False)} == final(TryAgain)


def test_every_engine_error_has_a_kind_for_both_engines() -> None:
    """Whatever an engine raises ends as a reason, never as a number."""
    assert set(JUDGE_FAILURES.kinds) == set(EMBEDDER_FAILURES.kinds) == final(EngineError)


def test_problems_of_the_moment_are_retryable_and_those_of_the_sample_are_not() -> None:
    """The kinds of the contract, and which of them may pass."""
    retryable = {kind for kind in ProblemKind if Problem(kind, "").retryable}

    assert retryable == RETRYABLE
    assert set(ProblemKind) - retryable == {
        ProblemKind.JUDGE_UNPARSEABLE,
        ProblemKind.JUDGE_REFUSED,
        ProblemKind.JUDGE_ABSTAINED,
        ProblemKind.INVALID_REFERENCE,
        ProblemKind.INVALID_REQUEST,
        ProblemKind.TOO_LONG,
        ProblemKind.UNREADABLE,
        ProblemKind.SIGNAL_FAILED,
        ProblemKind.GROUP_NOT_WHOLE,
    }
