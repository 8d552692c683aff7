"""The state of the engines, as the probes report it."""

from typing import Literal

from pydantic import BaseModel


class EngineState(BaseModel):
    """The readiness of one engine: it is loaded, warm and answering, or a message says why not."""

    ready: bool
    model: str
    message: str


class Readiness(BaseModel):
    """Reply of `GET /readyz`."""

    status: Literal["ready", "loading", "failed", "draining"]
    engines: dict[str, EngineState]
    cache: str = "memory"
    """The cache's tiers. Redis is reported, but readiness does not depend on it."""


class Startup(BaseModel):
    """Reply of `GET /startupz`."""

    stage: Literal["load", "warm_up", "ready", "failed"]
    """Progress of the engines: loading, answering their first inquiry, or ready for good."""
    engines: dict[str, EngineState]
    elapsed_s: float
    """Seconds since loading began, or that it took."""
