"""The value of one signal for one sample, or the problem in its place."""

import math
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import ErrorType

from medreward.errors import Problem, ProblemKind
from medreward.signals.kind import Rollout, SignalKind, UnusableError
from medreward.telemetry.logs import place_of

MOST_NAME_CHARACTERS = 64
PYDANTIC_WORDS = frozenset(get_args(ErrorType)) - {"value_error", "assertion_error"}
"""Errors whose text no validator wrote; that of an operator's own kind might quote the sample."""


def measure(
    name: str,
    kind: SignalKind,
    rollout: Rollout,
    extra: Mapping[str, Any],
    options: BaseModel,
    *,
    is_own: bool = False,
) -> float | Problem:
    """Read the inputs of the signal *name* from *extra*, and compute its value.

    A problem names the key of `extra` that is wrong, or the signal that raised or gave no number
    within its range. It quotes nothing of the sample.
    """
    try:
        inputs = kind.inputs.model_validate(extra)
        value = kind.value(rollout, inputs, options)
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_context=False, include_input=False)[0]
        return Problem(ProblemKind.INVALID_REQUEST, _explain(name, error, is_own=is_own))
    except UnusableError as exc:
        # The text of an operator's own kind might quote the sample.
        told = ": its inputs are not accepted" if is_own else f".{exc}"
        return Problem(ProblemKind.INVALID_REQUEST, f"extra{told}; the signal {name} reads it")
    except Exception as exc:  # noqa: BLE001 - it costs its sample alone
        return failed(name, f"it raised {type(exc).__name__} at {place_of(exc)}")
    return _checked(name, value, kind.range(options))


def failed(name: str, told: str) -> Problem:
    """Return the problem of a sample whose signal *name* gave no value."""
    return Problem(ProblemKind.SIGNAL_FAILED, f"signal {name}: {told}")


def _checked(name: str, value: object, bounds: tuple[float, float]) -> float | Problem:
    if not isinstance(value, int | float):
        return failed(name, f"it gave a {type(value).__name__}, not a number")
    if not -math.inf < value < math.inf:
        return failed(name, "it gave NaN or an infinite number")
    low, high = bounds
    if not low <= value <= high:
        return failed(name, f"it gave a value outside its range of {low:g} to {high:g}")
    return float(value)


def _explain(name: str, error: ErrorDetails, *, is_own: bool) -> str:
    """Name the wrong key of `extra` and its correction."""
    place = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part[:MOST_NAME_CHARACTERS]}"
        # Below its field, a key of a sample's own mapping might be anything.
        for part in (error["loc"][:1] if is_own else error["loc"])
    )
    if error["type"] == "missing":
        told = "required, but missing"
    elif error["type"] == "union_tag_invalid":
        # pydantic's text quotes the value.
        told = "of no known kind"
    elif is_own and error["type"] not in PYDANTIC_WORDS:
        told = "not accepted"
    else:
        told = error["msg"].removeprefix("Value error, ")
    return f"extra{place}: {told}; the signal {name} reads it"
