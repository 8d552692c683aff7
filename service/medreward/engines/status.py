"""The state of the engines, as the probes report it."""

from typing import Literal

from pydantic import BaseModel


class EngineState(BaseModel):
    """Whether one engine is loaded, warm and answering."""

    ready: bool
    model: str
    message: str


class Readiness(BaseModel):
    """Reply of `GET /readyz`."""

    status: Literal["ready", "loading", "failed", "draining"]
    engines: dict[str, EngineState]
    cache: str = "memory"
    """Where answers are remembered. Redis is told of here, and never makes a service unready."""


class Startup(BaseModel):
    """Reply of `GET /startupz`."""

    stage: Literal["load", "warm_up", "ready", "failed"]
    """How far the engines are: read from the disk or awaited, asked for the first time, or ready
    once and for all."""
    engines: dict[str, EngineState]
    elapsed_s: float
    """Since the process began to load, or in which it became ready."""
