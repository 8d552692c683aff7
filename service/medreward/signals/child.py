"""The process that computes the values of the operator's own signals: `own.py` starts it.

It reads a line of JSON with its kinds, says that it is ready, and then reads a line for each batch;
it answers with a line for each sample, as soon as its value is known.
"""

import contextlib
import json
import os
import resource
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

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
        for said in _answers(json.loads(line), kinds):
            _say(answers, said)
        signal.alarm(0)


def _answers(batch: Mapping[str, Any], kinds: Mapping[str, SignalKind]) -> Iterator[dict[str, Any]]:
    name = batch["signal"]
    kind = kinds[name]
    options = kind.options.model_validate(batch["options"])
    for response, thinking, answer, references, question, extra in batch["samples"]:
        rollout = Rollout(response, thinking, answer, tuple(references), question)
        value = measure(name, kind, rollout, extra, options, is_own=True)
        if isinstance(value, Problem):
            yield {"kind": value.kind, "message": value.message}
        else:
            yield {"value": value}


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
