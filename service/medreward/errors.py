"""Errors, sorted by who can act on them, and the problems of unscored samples.

1. A `SetupError` is for the operator: the deployment cannot run as configured.
2. A `RequestError` is for the caller: the whole request is refused with an HTTP status, and nothing
   is scored. A `TryAgain` is refused only for now: the same request may succeed later.
3. An `EngineError` refuses nothing: it becomes the problem of each sample that needed the engine.
4. A `Problem` is a value, not an exception. Each unscored sample has one, of a closed set of kinds.

MedrewardError
├── SetupError
├── RequestError
│   ├── MalformedBody        400  not JSON
│   ├── Unauthorized         401  no key, or a wrong one
│   ├── Forbidden            403  a web page of another host sent it
│   ├── NotFound             404  no such path, recipe or run
│   ├── MethodNotAllowed     405  the path exists, but not for this method
│   ├── BodyTooSlow          408  the body did not arrive in time
│   ├── OtherModel           409  the caller expects another engine than this process holds
│   ├── TooLarge             413  send less at once
│   ├── EncodedBody          415  the body is compressed
│   ├── InvalidRequest       422  JSON, but not of the route's schema
│   ├── TemplateUnavailable  422  this deployment's judge cannot answer the template
│   ├── NoReward             422  a sample is unscored, and the trainer's format has only numbers
│   └── TryAgain
│       ├── Overloaded           429  too much is in flight, or for its deadline; has retry_after_s
│       ├── NotReady             503  loading or draining
│       ├── NoRewardYet          503  as NoReward, but a retry may succeed
│       └── Abandoned            499  the caller hung up; the response is never read
└── EngineError
    ├── BackendDown          unreachable, or failed while answering
    ├── DeadlinePassed       no reply in time
    └── NonsenseReply        a reply that is not a valid answer
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class MedrewardError(Exception):
    """Base class of every error that this package raises on purpose."""


class SetupError(MedrewardError):
    """This deployment cannot run as configured; the message names the setting to correct."""


class RequestError(MedrewardError):
    """The request as a whole is refused; nothing was scored."""

    kind = "invalid_request"
    retryable = False
    fits: int | None = None
    """The number of samples, from the first on, that would be accepted at once; None if unknown."""

    def __init__(self, message: str, *, kind: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind or self.kind


class MalformedBody(RequestError):
    """The body is not JSON."""

    kind = "malformed_body"


class Unauthorized(RequestError):
    """The request has no key, or a wrong one."""

    kind = "unauthorized"


class Forbidden(RequestError):
    """A web page of another host sent the request to a service without keys."""

    kind = "forbidden"


class NotFound(RequestError):
    """The path or the name does not exist."""

    kind = "not_found"


class MethodNotAllowed(RequestError):
    """The path exists, but does not accept this HTTP method."""

    kind = "method_not_allowed"


class BodyTooSlow(RequestError):
    """The request's body did not arrive in time."""

    kind = "body_too_slow"


class OtherModel(RequestError):
    """The calling process expects another engine than this one holds; its answers would be wrong."""

    kind = "other_model"


class TooLarge(RequestError):
    """The request is over a limit of this deployment."""

    kind = "too_large"

    def __init__(self, message: str, *, fits: int | None = None) -> None:
        super().__init__(message)
        self.fits = fits


class EncodedBody(RequestError):
    """The body has a `Content-Encoding`."""

    kind = "encoded_body"


class InvalidRequest(RequestError):
    """The body is JSON, but does not fit the route's schema."""


class TemplateUnavailable(RequestError):
    """The configured judge cannot answer this template."""

    kind = "template_unavailable"


class NoReward(RequestError):
    """A sample is unscored, and the trainer's format has only numbers; `kind` is the problem's."""


class TryAgain(RequestError):
    """The request is valid, but the service could not serve it now."""

    retryable = True


class Overloaded(TryAgain):
    """A limit on what is in flight is reached, or the judge has no time for all of a request."""

    kind = "overloaded"

    def __init__(
        self,
        message: str,
        *,
        kind: str | None = None,
        retry_after_s: float = 1.0,
        fits: int | None = None,
    ) -> None:
        super().__init__(message, kind=kind)
        self.retry_after_s = retry_after_s
        self.fits = fits


class NotReady(TryAgain):
    """The models are loading, or the service is draining."""

    kind = "not_ready"
    retry_after_s = 2.0


class NoRewardYet(TryAgain):
    """A sample is unscored for now, otherwise as `NoReward`: a retry may succeed."""


class Abandoned(TryAgain):
    """The caller hung up before the response."""

    kind = "abandoned"


class EngineError(MedrewardError):
    """An engine gave no answer; the samples that needed it are unscored."""


class BackendDown(EngineError):
    """The engine cannot be reached, or died while answering."""


class DeadlinePassed(EngineError):
    """The engine did not answer in time."""


class NonsenseReply(EngineError):
    """The engine's reply is not a valid answer."""


STATUS_OF: Mapping[type[RequestError], int] = {
    MalformedBody: 400,
    Unauthorized: 401,
    Forbidden: 403,
    NotFound: 404,
    MethodNotAllowed: 405,
    BodyTooSlow: 408,
    OtherModel: 409,
    TooLarge: 413,
    EncodedBody: 415,
    InvalidRequest: 422,
    TemplateUnavailable: 422,
    NoReward: 422,
    Overloaded: 429,
    # nginx's code for a client that closed the connection; only metrics and logs show it.
    Abandoned: 499,
    NotReady: 503,
    NoRewardYet: 503,
}


class ProblemKind(StrEnum):
    """The reasons for which a sample has no score. Closed: clients and metrics rely on it."""

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
    UNREADABLE = "unreadable"
    INVALID_REQUEST = "invalid_request"
    GROUP_NOT_WHOLE = "group_not_whole"
    SIGNAL_FAILED = "signal_failed"


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
    """The reason for which something has no score; it never stands in for a number."""

    kind: ProblemKind
    message: str
    """A text for people; it never quotes a sample."""

    @property
    def retryable(self) -> bool:
        """True if the same sample may be scored when it is sent again later."""
        return self.kind in RETRYABLE


@dataclass(frozen=True, slots=True)
class Failures:
    """The problem kinds that an engine's errors become in the samples that needed it."""

    engine: str
    kinds: Mapping[type[EngineError], ProblemKind]

    def problem(self, error: EngineError) -> Problem:
        """Return the problem of a sample whose answer failed with *error*."""
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
