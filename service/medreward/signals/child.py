"""The process that computes the values of the operator's own signals: `own.py` starts it.

It reads a line of JSON with its kinds, says that it is ready, and then answers each line, a sample,
with one.
"""

import contextlib
import json
import os
import resource
import signal
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TextIO

from pydantic import BaseModel

from medreward.errors import Problem
from medreward.signals.kind import Rollout, SignalKind
from medreward.signals.measure import measure
from medreward.signals.registry import import_kind


def main() -> None:
    """Answer batches until the service closes this process's standard input."""
    # Whatever a signal prints must not stand between the answers, and might be a patient's text.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    job = json.loads(sys.stdin.readline())
    sys.path[:] = job["path"]
    kinds = {name: import_kind(path) for name, path in job["kinds"].items()}
    _limit_memory(job["memory_bytes"])
    _say(answers, {"ready": True})
    for line in sys.stdin:
        # The service ends this process sooner, unless it was killed itself: then nobody else would.
        signal.alarm(job["alarm_s"])
        _say(answers, _answer(json.loads(line), kinds))
        signal.alarm(0)


def _answer(job: Mapping[str, Any], kinds: Mapping[str, SignalKind]) -> dict[str, Any]:
    name = job["signal"]
    kind = kinds[name]
    response, thinking, answer, references, question, extra = job["sample"]
    rollout = Rollout(response, thinking, answer, tuple(references), question)
    options = _options(kind.options, job["options"])
    value = measure(name, kind, rollout, extra, options, is_own=True)
    if isinstance(value, Problem):
        return {"kind": value.kind, "message": value.message}
    return {"value": value}


@cache
def _options(model: type[BaseModel], told: str) -> BaseModel:
    """Read the options of a recipe, of which there are few."""
    return model.model_validate_json(told)


def _say(answers: TextIO, said: Mapping[str, Any]) -> None:
    answers.write(json.dumps(said) + "\n")
    answers.flush()


def _limit_memory(more_bytes: int) -> None:
    """Let this process take *more_bytes* of memory beside what its modules take."""
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        most = pages * resource.getpagesize() + more_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    main()
