"""Rollouts for the tests of signals, and a count of the lines that a call runs."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from medreward.signals.kind import Rollout


def answered(answer: str, *references: str, thinking: str = "") -> Rollout:
    """A rollout whose response is a block of thinking and one answer."""
    response = f"<think>{thinking}</think><answer>{answer}</answer>"
    return Rollout(response, thinking, answer, references, question=None)


def responded(response: str, *references: str) -> Rollout:
    """A rollout whose response has no blocks that the recipe knows."""
    return Rollout(response, "", response, references, question=None)


def lines_run(call: Callable[[], object]) -> int:
    """Count the lines of Python that a call runs: its work, however busy the machine is."""
    count = 0

    def trace(_frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count
