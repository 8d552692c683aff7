"""The errors of the client, sorted by who can act."""

from collections.abc import Mapping


class MedrewardError(Exception):
    """A call failed.

    MedrewardError
    ├── RequestRefused   the caller: change the request; carries kind, status, request_id
    ├── TryAgain         the caller: same request, later; carries retry_after_s
    │   ├── Overloaded       the service is full
    │   ├── Unavailable      not reached, loading, draining or broken
    │   └── TimedOut         no answer in time
    ├── NoReward         the caller: samples came back without a reward; carries counts
    └── BadReply         the operator: the service, or a proxy, breaks the contract

    A message never holds a question, a response or a reference. Every class can be built from
    its message alone, and pickled, as workers do to send it to their trainer.
    """


class RequestRefused(MedrewardError):
    """The service refuses the request; nothing was scored.

    `status` is the HTTP status, `kind` the service's name for the error, `request_id` the id
    under which it logged the request, and `fits` the number of samples, from the first on, that
    it would take at once; each is None if unknown.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
        fits: int | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.request_id = request_id
        self.fits = fits


class TryAgain(MedrewardError):
    """The request is valid, but the service could not serve it now.

    `retry_after_s` is the pause in seconds that the service asks for; 0 if it names none. `fits`
    is the number of samples, from the first on, that it would take at once; None if unknown.
    """

    def __init__(
        self, message: str, *, retry_after_s: float = 0.0, fits: int | None = None
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.fits = fits


class Overloaded(TryAgain):
    """The service is full."""


class Unavailable(TryAgain):
    """The service could not be reached, is not ready, or failed."""


class TimedOut(TryAgain):
    """No response arrived in time."""


class BadReply(MedrewardError):
    """A response does not match the HTTP contract."""


class NoReward(MedrewardError):
    """Samples have no reward, and the trainer cannot represent that; `counts` by kind of error."""

    def __init__(self, message: str, *, counts: Mapping[str, int] | None = None) -> None:
        super().__init__(message)
        self.counts = dict(counts or {})
