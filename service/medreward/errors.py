"""What can go wrong, sorted by who can act.

MedrewardError
├── SetupError           the operator: this deployment cannot run as configured
├── RequestError         the caller: the request as a whole gets an HTTP status
│   ├── MalformedBody        400  not JSON
│   ├── Unauthorized         401  no key, or a wrong one
│   ├── NotFound             404  no such path or recipe
│   ├── MethodNotAllowed     405  another method would do
│   ├── BodyTooSlow          408  the body did not arrive in time
│   ├── OtherModel           409  another process of ours means another engine than is here
│   ├── TooLarge             413  send less at once
│   ├── InvalidRequest       422  JSON, but not what the route takes
│   ├── TemplateUnavailable  422  this deployment's judge cannot grade so
│   ├── NoReward             422  a sample has none, and its trainer cannot be told so
│   └── TryAgain             the same request, later
│       ├── Overloaded           429  carries retry_after_s
│       ├── NotReady             503  loading or draining
│       ├── NoRewardYet          503  a sample has none for now; otherwise as NoReward
│       └── Abandoned            499  the caller hung up; nobody reads the reply
└── EngineError          an engine: the sample is unscored, its neighbours are not touched
    ├── BackendDown          it does not answer, or died answering
    ├── DeadlinePassed       it answered too late
    └── NonsenseReply        it answered, but not what was asked

Beside them stands `Problem`: the value that an unscored sample carries, with a closed set of kinds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class MedrewardError(Exception):
    """Anything this package raises on purpose."""


class SetupError(MedrewardError):
    """This deployment cannot run as configured; the message says which setting mends it."""


class RequestError(MedrewardError):
    """The request as a whole is refused; nothing was scored."""

    kind = "invalid_request"
    retryable = False

    def __init__(self, message: str, *, kind: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind or self.kind


class MalformedBody(RequestError):
    """The body is not JSON."""

    kind = "malformed_body"


class Unauthorized(RequestError):
    """No key, or a wrong one."""

    kind = "unauthorized"


class NotFound(RequestError):
    """There is nothing under this path or name."""

    kind = "not_found"


class MethodNotAllowed(RequestError):
    """The path exists; another HTTP method reaches it."""

    kind = "method_not_allowed"


class BodyTooSlow(RequestError):
    """The body did not arrive in time; nothing waits for it any longer."""

    kind = "body_too_slow"


class OtherModel(RequestError):
    """A process of ours means another engine than this one holds; its answers would be mistaken."""

    kind = "other_model"


class TooLarge(RequestError):
    """The request is over a limit of this deployment."""

    kind = "too_large"


class InvalidRequest(RequestError):
    """The body is JSON, but not what the route takes."""


class TemplateUnavailable(RequestError):
    """The configured judge cannot answer this template."""

    kind = "template_unavailable"


class NoReward(RequestError):
    """A sample is unscored, and its trainer knows rewards alone; the kind is the problem's."""


class TryAgain(RequestError):
    """Nothing is wrong with the request; the service could not serve it now."""

    retryable = True


class Overloaded(TryAgain):
    """Every permit is taken."""

    kind = "overloaded"

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotReady(TryAgain):
    """The models are loading, or the service is draining."""

    kind = "not_ready"
    retry_after_s = 2.0


class NoRewardYet(TryAgain):
    """A sample is unscored for now, and its trainer knows rewards alone; the kind is the problem's."""


class Abandoned(TryAgain):
    """The caller hung up before the reply."""

    kind = "abandoned"


class EngineError(MedrewardError):
    """An engine gave no answer; the samples that needed it are unscored."""


class BackendDown(EngineError):
    """The engine cannot be reached, or died while answering."""


class DeadlinePassed(EngineError):
    """The engine did not answer in time."""


class NonsenseReply(EngineError):
    """The engine answered something that is not an answer."""


STATUS_OF: Mapping[type[RequestError], int] = {
    MalformedBody: 400,
    Unauthorized: 401,
    NotFound: 404,
    MethodNotAllowed: 405,
    BodyTooSlow: 408,
    OtherModel: 409,
    TooLarge: 413,
    InvalidRequest: 422,
    TemplateUnavailable: 422,
    NoReward: 422,
    Overloaded: 429,
    # nginx's word for a caller that left; it is only ever seen in metrics and logs.
    Abandoned: 499,
    NotReady: 503,
    NoRewardYet: 503,
}


class ProblemKind(StrEnum):
    """Why a sample has no score. Closed: clients and metrics rely on it."""

    JUDGE_UNREACHABLE = "judge_unreachable"
    JUDGE_TIMEOUT = "judge_timeout"
    JUDGE_UNPARSEABLE = "judge_unparseable"
    JUDGE_REFUSED = "judge_refused"
    JUDGE_ABSTAINED = "judge_abstained"
    EMBEDDER_UNREACHABLE = "embedder_unreachable"
    EMBEDDER_TIMEOUT = "embedder_timeout"
    INVALID_REFERENCE = "invalid_reference"
    DEADLINE = "deadline"
    TOO_LONG = "too_long"


RETRYABLE = frozenset(
    {
        ProblemKind.JUDGE_UNREACHABLE,
        ProblemKind.JUDGE_TIMEOUT,
        ProblemKind.EMBEDDER_UNREACHABLE,
        ProblemKind.EMBEDDER_TIMEOUT,
        ProblemKind.DEADLINE,
    }
)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something has no score: a value, never a number."""

    kind: ProblemKind
    message: str
    """For people; never holds a sample's text."""

    @property
    def retryable(self) -> bool:
        """Whether the same sample may be scored if it is sent again later."""
        return self.kind in RETRYABLE


@dataclass(frozen=True, slots=True)
class Failures:
    """What an engine's errors mean for the samples that needed it."""

    engine: str
    kinds: Mapping[type[EngineError], ProblemKind]

    def problem(self, error: EngineError) -> Problem:
        """Turn an engine's error into the value that the sample carries."""
        kind = next(kind for cls, kind in self.kinds.items() if isinstance(error, cls))
        return Problem(kind, f"{self.engine}: {error}")


JUDGE_FAILURES = Failures(
    "judge",
    {
        BackendDown: ProblemKind.JUDGE_UNREACHABLE,
        DeadlinePassed: ProblemKind.JUDGE_TIMEOUT,
        NonsenseReply: ProblemKind.JUDGE_UNPARSEABLE,
    },
)
EMBEDDER_FAILURES = Failures(
    "embedder",
    {
        BackendDown: ProblemKind.EMBEDDER_UNREACHABLE,
        DeadlinePassed: ProblemKind.EMBEDDER_TIMEOUT,
        NonsenseReply: ProblemKind.EMBEDDER_UNREACHABLE,
    },
)
