"""Signals of an operator's own: one that is well, and one that does what the sample tells it."""

import time

from pydantic import BaseModel, ConfigDict, field_validator
from pydantic_core import PydanticCustomError

from medreward.signals.kind import Rollout, SignalKind, UnusableError


class Options(BaseModel):
    """No option."""

    model_config = ConfigDict(extra="forbid")


class Words(BaseModel):
    """The number of words that is wanted."""

    words: int

    @field_validator("words")
    @classmethod
    def _positive(cls, words: int) -> int:
        if words < -9:
            raise PydanticCustomError("words", "{words} is what the patient said", {"words": words})
        if words < 1:
            raise ValueError(f"{words} is what the patient said")
        return words


def _balance(rollout: Rollout, inputs: Words, _: Options) -> float:
    return max(-1.0, 1.0 - abs(len(rollout.answer.split()) / inputs.words - 1.0))


BALANCE = SignalKind(Options, Words, _balance, range=lambda _: (-1.0, 1.0))


class Nothing(BaseModel):
    """No input."""


def _trouble(rollout: Rollout, _: Nothing, __: Options) -> float:
    match rollout.answer:
        case "raise":
            raise RuntimeError(rollout.response)
        case "hang":
            while True:
                time.sleep(60)
        case "allocate":
            return float(len(bytearray(1 << 40)))
        case "exit":
            raise SystemExit(1)
        case "print":
            print(rollout.response)  # noqa: T201 - it must not stand between the answers
            return 0.5
        case "unusable":
            raise UnusableError(f"words: {rollout.response} is what the patient said")
        case "huge":
            return 10**400
        case "text":
            return "0.5"  # type: ignore[return-value]
    return float(rollout.answer)


TROUBLE = SignalKind(Options, Nothing, _trouble)
NO_KIND = "brevity"
WEIGHED = SignalKind(
    type("Weighed", (BaseModel,), {"__annotations__": {"weight": float}}), Nothing, _trouble
)
NEEDY = SignalKind(Options, Nothing, _trouble, needs=("groups",))
