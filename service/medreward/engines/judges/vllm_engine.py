"""The life of a vLLM engine: start, watch, replacement after a crash, and shutdown.

It runs in processes of its own, which write to our logs. They receive token ids and no text.
"""

import asyncio
import json
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from vllm import AsyncEngineArgs, SamplingParams
from vllm.config.logging import LoggingConfig
from vllm.inputs import tokens_input
from vllm.outputs import RequestOutput
from vllm.platforms import current_platform
from vllm.utils.system_utils import kill_process_tree
from vllm.v1.engine.async_llm import AsyncLLM

from medreward.errors import BackendDown, SetupError
from medreward.telemetry.logs import Style

GIB = 2**30
CPU_CACHE_GIB = 2.0
CPU_BLOCK_TOKENS = 32
"""The smallest block of vLLM's attention on a CPU; its default of 128 is longer than most shared
prefixes."""
WATCH_S = 0.5
"""Interval of the checks that the engine's process is alive."""
SHUTDOWN_TIMEOUT_S = 20.0
"""Time for a shutdown, usually some seconds, after which remaining processes are killed."""
FAILED_STARTS = 3
"""Failed starts in a row, after which an engine that died is not started again."""

MEND = (
    "give it more memory (MEDREWARD_VLLM_GPU_MEMORY_UTILIZATION, MEDREWARD_VLLM_KV_CACHE_GIB, "
    "MEDREWARD_VLLM_TENSOR_PARALLEL), shorter prompts (MEDREWARD_JUDGE_MAX_PROMPT_TOKENS) "
    "or a smaller MEDREWARD_JUDGE_MODEL"
)
DIED = "vLLM's process died; a new one is being started"


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """The share of the machine for an engine; None stands for the default on this kind of machine."""

    tensor_parallel: int = 1
    data_parallel: int = 1
    gpu_memory_utilization: float = 0.85
    kv_cache_gib: float | None = None
    dtype: str | None = None
    enforce_eager: bool | None = None
    more: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    """Further arguments of `AsyncEngineArgs`, by name."""
    log_style: Style = "json"

    @property
    def resolved_dtype(self) -> str:
        """The precision: float32 on a CPU, since bfloat16 shifts probabilities by some hundredths."""
        return self.dtype or ("float32" if is_on_cpu() else "auto")

    @property
    def identity(self) -> str:
        """What of these options a probability may depend on."""
        return ":".join([self.resolved_dtype, *(f"{k}={self.more[k]}" for k in sorted(self.more))])

    def arguments(self) -> dict[str, Any]:
        """Build the arguments of `AsyncEngineArgs`."""
        on_cpu = is_on_cpu()
        cache_gib = self.kv_cache_gib or (CPU_CACHE_GIB if on_cpu else None)
        return {
            "dtype": self.resolved_dtype,
            "tensor_parallel_size": self.tensor_parallel,
            "data_parallel_size": self.data_parallel,
            "gpu_memory_utilization": self.gpu_memory_utilization,
            "kv_cache_memory_bytes": round(cache_gib * GIB) if cache_gib else None,
            "enforce_eager": on_cpu if self.enforce_eager is None else self.enforce_eager,
            "block_size": CPU_BLOCK_TOKENS if on_cpu else None,
            **self.more,
        }


def is_on_cpu() -> bool:
    """Return True if the installed vLLM runs on the CPU."""
    return bool(current_platform.is_cpu())


class VllmEngine:
    """Runs at most one vLLM engine at a time; to be used from one event loop."""

    def __init__(
        self,
        model: str,
        *,
        revision: str | None,
        max_model_len: int,
        options: EngineOptions,
        worker: Executor,
        lost: Callable[[str], None],
    ) -> None:
        self._model = model
        self._options = options
        self.arguments = {
            "model": model,
            "revision": revision,
            "tokenizer_revision": revision,
            "max_model_len": max_model_len,
            "enable_prefix_caching": True,
            "load_format": "safetensors",  # weights in pickles could run code
            "use_tqdm_on_load": False,
            "disable_log_stats": True,
            "enable_log_requests": False,
            **options.arguments(),
        }
        self._worker = worker
        self._lost = lost
        self._llm: Any = None
        self._watching: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._was_up = False
        self._failed_starts = 0

    @property
    def is_up(self) -> bool:
        """True if the engine runs and accepts requests."""
        return self._llm is not None and not self._llm.errored

    async def start(self) -> None:
        """Start the engine off the event loop if it is not up; a large model takes minutes.

        Raises:
            SetupError: it cannot run as configured, or died too often.
            BackendDown: it ran before, and could not be started this time.
        """
        async with self._starting:
            if self.is_up:
                return
            await self._end()
            try:
                self._llm = await self._build()
            except _FailedStart as exc:
                self._failed_starts += 1
                can_retry = self._was_up and self._failed_starts < FAILED_STARTS
                raise (BackendDown if can_retry else SetupError)(str(exc)) from exc
            self._was_up, self._failed_starts = True, 0
            self._watching = asyncio.create_task(self._watch(self._llm))

    async def next_token(
        self, prompt: list[int], params: SamplingParams, request_id: str
    ) -> RequestOutput:
        """Generate one token; cancelling the call aborts the request.

        Raises:
            BackendDown: the engine is not up, or died meanwhile.
        """
        if not self.is_up:
            raise BackendDown(DIED)
        # Token ids and not text, so that vLLM does not tokenise.
        output = None
        async for output in self._llm.generate(tokens_input(prompt), params, request_id):  # noqa: B007 - the last one is whole
            pass
        if output is None:
            raise BackendDown(DIED)
        return output

    async def aclose(self) -> None:
        """End the engine and its processes, and wait until they are gone."""
        async with self._starting:
            await self._end()

    async def _end(self) -> None:
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        llm, self._llm = self._llm, None
        if llm is None:
            return
        if llm.output_handler is not None:
            # Cancelled before the shutdown, which it would log as a failure of the engine.
            llm.output_handler.cancel()
            await asyncio.gather(llm.output_handler, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(
            self._worker, llm.shutdown, SHUTDOWN_TIMEOUT_S
        )

    async def _watch(self, llm: Any) -> None:
        # vLLM has no event for the death of its process, so its state is polled.
        while not llm.errored:  # noqa: ASYNC110 - it offers no event
            await asyncio.sleep(WATCH_S)
        self._lost(DIED)

    async def _build(self) -> Any:
        building = asyncio.get_running_loop().run_in_executor(self._worker, self._construct)
        try:
            return await asyncio.shield(building)
        except asyncio.CancelledError:
            await _abandon(building)
            raise

    def _construct(self) -> Any:
        """Start the processes, and wait until they are ready."""
        # A fork of a process with threads may hang, and no usage statistics are sent.
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
        os.environ["VLLM_NO_USAGE_STATS"] = "1"
        _block_interrupts()
        with tempfile.TemporaryDirectory(prefix="medreward-") as folder:
            told = Path(folder) / "reasons"
            try:
                logging_config = _write_logging_config(Path(folder), told, self._options.log_style)
                arguments = AsyncEngineArgs(**self.arguments, logging_config=logging_config)
                return AsyncLLM.from_engine_args(arguments)
            except Exception as exc:  # noqa: BLE001 - it raises any type, also for lack of memory
                raise _FailedStart(self._model, _reason(told, exc)) from None
            finally:
                _remove_handlers()


class _FailedStart(Exception):
    """The engine did not start; the message has the reason and the remedies."""

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(f"vLLM cannot start with the judge {model!r}: {reason}; {MEND}")


async def _abandon(building: asyncio.Future[Any]) -> None:
    """Abort a start by killing its processes, after which it fails at once."""
    while not building.done():
        for process in multiprocessing.active_children():
            if process.name.startswith("EngineCore") and process.pid is not None:
                kill_process_tree(process.pid)
        await asyncio.wait({building}, timeout=0.1)
    with suppress(_FailedStart):
        building.result().shutdown()


def _block_interrupts() -> None:
    """Block SIGINT in this thread, and so in the processes that it starts, which inherit the mask.

    A terminal sends Ctrl-C to all of them, and they would die before requests in flight are finished.
    """
    # The tracker unblocks the signal when it starts, so it has to start before.
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _write_logging_config(folder: Path, told: Path, style: Style) -> LoggingConfig:
    """Configure vLLM's processes to log in our format, and their failures also to the file *told*."""
    told.touch()
    style = "console" if sys.stderr.isatty() else style
    handlers = {
        "lines": {
            "class": "logging.StreamHandler",
            "stream": "ext://sys.stderr",
            "formatter": "lines",
        },
        "reasons": {
            "class": "logging.FileHandler",
            "filename": str(told),
            "level": "ERROR",
            "formatter": "reasons",
        },
    }
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "lines": {"()": "medreward.telemetry.logs.formatter", "style": style},
            "reasons": {"()": "medreward.telemetry.logs.ReasonFormatter"},
        },
        "handlers": handlers,
        # Warnings and above: INFO has its whole configuration, and DEBUG has token ids.
        "loggers": {
            "vllm": {"handlers": [*handlers], "level": "WARNING", "propagate": False},
        },
    }
    file = folder / "logging.json"
    file.write_text(json.dumps(config), "utf-8")
    return LoggingConfig(
        configure_logging=True, pylogging_config_file=str(file), log_level="WARNING"
    )


def _remove_handlers() -> None:
    """Remove vLLM's handlers in this process: their file is about to be deleted."""
    logger = logging.getLogger("vllm")
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        handler.close()
    logger.propagate = True


def _reason(told: Path, error: Exception) -> str:
    """Return the reason of a failed start: the first line in the file *told*, otherwise the error."""
    lines = told.read_text("utf-8").splitlines()
    if lines:
        return lines[0]
    reason = " ".join(str(error).split()) or type(error).__name__
    if "initialization failed" in reason:
        return f"its process ended before it was ready, perhaps for want of memory ({reason})"
    return reason
