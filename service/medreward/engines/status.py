"""The state of the engines, as the probes report it."""

from typing import Literal

from pydantic import BaseModel

ExamScope = Literal["answers", "terms"]
ExamStatus = Literal["running", "passed", "failed", "no_result"]


class JudgeExam(BaseModel):
    """The exam of the judge by plain pairs (docs/engines.md)."""

    status: ExamStatus
    """`no_result` if too few pairs have a verdict, which is not a failure."""
    scope: ExamScope
    """What the judge is examined in; a verifier without a language model reads terms alone."""
    balanced_accuracy: float | None = None
    """Mean of the shares of right answers with YES and of wrong ones with NO."""


class EngineState(BaseModel):
    """The readiness of one engine: it is loaded, warm and answering, or a message says why not."""

    ready: bool
    model: str
    message: str


class Readiness(BaseModel):
    """Reply of `GET /readyz`."""

    status: Literal["ready", "degraded", "loading", "failed", "stalled", "draining"]
    """`degraded` if a service that may stay ready lacks an engine behind a server; `stalled` if its
    event loop stands still."""
    engines: dict[str, EngineState]
    cache: str = "memory"
    """The cache's tiers. Redis is reported, but readiness does not depend on it."""
    judge_exam: JudgeExam | None = None
    """The exam of the judge; null if none is taken. Readiness depends on it only if it is required."""

    @property
    def is_ready(self) -> bool:
        """True if load balancers should send requests here."""
        return self.status in {"ready", "degraded"}


class Startup(BaseModel):
    """Reply of `GET /startupz`."""

    stage: Literal["load", "warm_up", "ready", "failed"]
    """Progress of the engines that this process holds itself: loading, answering their first inquiry,
    or ready for good."""
    engines: dict[str, EngineState]
    elapsed_s: float
    """Seconds since loading began, or that it took."""
