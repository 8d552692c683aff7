"""The operator's own signals: one process computes their values, so none can harm the service.

A sample whose value is not there by the deadline of its batch, or on which the process dies, has a
problem; the process is started anew, and the samples behind it are computed all the same.
"""

import asyncio
import json
import math
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, cast

from pydantic import BaseModel

from medreward.admission import Deadline
from medreward.errors import Problem, ProblemKind
from medreward.signals.kind import Rollout
from medreward.signals.measure import failed
from medreward.signals.registry import Kinds

START_S = 60.0
"""Time to import the modules of the signals."""
BATCH = 32

Told = tuple[Rollout | Problem, Mapping[str, Any]]
"""What a signal is told of one sample: the rollout, or the problem in its place, and its `extra`."""

Known = tuple[Rollout, Mapping[str, Any]]

PAST_DEADLINE = Problem(
    ProblemKind.DEADLINE, "signals: the deadline passed before its value was computed"
)

TOO_DEEP = Problem(ProblemKind.INVALID_REQUEST, "extra: nested too deeply")


class NotStartedError(Exception):
    """The process of the signals ended, or hung, before it was ready."""


class Bounds(NamedTuple):
    """What the process may take."""

    batch_s: float
    """Seconds that a batch may take."""
    memory_bytes: int
    """Memory beside that of the modules."""


class OwnSignals:
    """The process of the operator's own signals; it is started when a value is first needed."""

    def __init__(self, kinds: Kinds, bounds: Bounds) -> None:
        self._paths = {name: known.path for name, known in kinds.items() if known.path}
        self._bounds = bounds
        self._process: Process | None = None
        self._turn = asyncio.Lock()

    async def values(
        self, name: str, options: BaseModel, samples: Sequence[Told], deadline: Deadline
    ) -> list[float | Problem]:
        """Compute the signal *name* of each sample, in order."""
        values = iter(
            await self._computed(
                name,
                options,
                [(rollout, extra) for rollout, extra in samples if isinstance(rollout, Rollout)],
                deadline,
            )
        )
        return [next(values) if isinstance(rollout, Rollout) else rollout for rollout, _ in samples]

    async def _computed(
        self, name: str, options: BaseModel, samples: Sequence[Known], deadline: Deadline
    ) -> list[float | Problem]:
        told = json.dumps(options.model_dump(mode="json", exclude={"weight"}))
        found: list[float | Problem] = []
        missing = PAST_DEADLINE
        try:
            async with asyncio.timeout(deadline.left_s):
                while len(found) < len(samples):
                    async with self._turn:
                        batch = samples[len(found) : len(found) + BATCH]
                        await self._add(found, name, told, batch)
        except TimeoutError:
            pass
        except NotStartedError as exc:
            missing = failed(name, str(exc))
        return found + [missing] * (len(samples) - len(found))

    async def aclose(self) -> None:
        """End the process, if there is one."""
        async with self._turn:
            await self._end()

    async def _add(
        self, found: list[float | Problem], name: str, options: str, samples: Sequence[Known]
    ) -> None:
        """Add the values of some samples, up to the first on which the process hangs or dies."""
        is_whole = False
        if self._process is not None and self._process.returncode is not None:
            # It died while nothing was asked, so no sample is to blame.
            await self._end()
        process = self._process or await self._start()
        try:
            async with asyncio.timeout(self._bounds.batch_s):
                # One by one: those before a hang stay, and each is read on its own account.
                for rollout, extra in samples:
                    try:
                        job = {"signal": name, "options": options, "sample": [*rollout, extra]}
                        await _write(process, job)
                    except RecursionError:
                        found.append(TOO_DEEP)
                        continue
                    found.append(_read(await _line(process)))
            is_whole = True
        except TimeoutError:
            found.append(failed(name, f"no value within {self._bounds.batch_s:g} s"))
        except (OSError, EOFError, ValueError):
            found.append(
                failed(name, "its process died on the sample, perhaps of its memory limit")
            )
        finally:
            # Also after a cancellation: the rest of the batch's answers would be taken for those of
            # the next.
            if not is_whole:
                await self._end()

    async def _start(self) -> Process:
        # Without our settings: the keys among them are none of the signals' business.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MEDREWARD_")}
        self._process = process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "medreward.signals.child"),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            env=environment,
            start_new_session=True,
        )
        job = {
            "path": sys.path,
            "kinds": self._paths,
            "memory_bytes": self._bounds.memory_bytes,
            "alarm_s": math.ceil(2 * self._bounds.batch_s),
        }
        is_ready = False
        try:
            async with asyncio.timeout(START_S):
                await _write(process, job)
                is_ready = bool(json.loads(await _line(process))["ready"])
        except (OSError, EOFError, ValueError) as exc:
            # A timeout is an OSError, too.
            raise NotStartedError("its process did not start") from exc
        finally:
            if not is_ready:
                await self._end()
        return process

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()


async def _write(process: Process, job: Mapping[str, Any]) -> None:
    stdin = cast("asyncio.StreamWriter", process.stdin)
    stdin.write(json.dumps(job).encode() + b"\n")
    await stdin.drain()


async def _line(process: Process) -> bytes:
    line = await cast("asyncio.StreamReader", process.stdout).readline()
    if not line:
        raise EOFError
    return line


def _read(line: bytes) -> float | Problem:
    said = json.loads(line)
    if "value" in said:
        return float(said["value"])
    return Problem(ProblemKind(said["kind"]), said["message"])
