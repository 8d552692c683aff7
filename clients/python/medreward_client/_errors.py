"""Why a call brought no reply, sorted by who can act."""

from collections.abc import Mapping


class MedrewardError(Exception):
    """A call that brought no reply.

    MedrewardError
    ├── RequestRefused   the caller: change the request; carries kind, status, request_id
    ├── TryAgain         the caller: same request, later; carries retry_after_s
    │   ├── Overloaded       the service is full
    │   ├── Unavailable      not reached, loading, draining or broken
    │   └── TimedOut         no answer in time
    ├── NoReward         the caller: samples came back without a reward; carries counts
    └── BadReply         whoever runs the service: it, or a proxy, does not speak our contract

    A message never holds a question, a response or a reference. Every class can be
    built from its message alone, and pickled, so that it survives the way from a
    worker process to its trainer.
    """


class RequestRefused(MedrewardError):
    """The service will not take the request as it stands; nothing was scored.

    `status` is the HTTP status, `kind` the service's word for what is wrong and
    `request_id` the name under which it logged the request; each is None if unknown.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.request_id = request_id


class TryAgain(MedrewardError):
    """Nothing is wrong with the request; the service could not serve it now.

    `retry_after_s` is for how many seconds it asks to be left alone; 0 if it does not say.
    """

    def __init__(self, message: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Overloaded(TryAgain):
    """The service is full."""


class Unavailable(TryAgain):
    """The service could not be reached, is not ready, or failed."""


class TimedOut(TryAgain):
    """No reply came in time."""


class BadReply(MedrewardError):
    """A reply came, and it is not what the contract says."""


class NoReward(MedrewardError):
    """Samples have no reward, and there is no other way to say so; `counts` of each kind."""

    def __init__(self, message: str, *, counts: Mapping[str, int] | None = None) -> None:
        super().__init__(message)
        self.counts = dict(counts or {})
