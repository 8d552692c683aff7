"""What the tests of the vLLM judge share: one engine, and a look at the processes it runs in.

They run in an environment of their own, by `make vllm`; elsewhere they are not collected.
"""

import gc
import importlib
import importlib.util
import os
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import httpx
import pytest

from medreward.app import create_app
from medreward.engines.registry import BuildContext, build_judge
from medreward.settings import Settings
from medreward.telemetry.metrics import Metrics
from tests.conftest import RealEngines
from tests.support.service import over_asgi

if TYPE_CHECKING:
    from medreward.engines.judges.vllm import VllmJudge

HAS_VLLM = importlib.util.find_spec("vllm") is not None
collect_ignore_glob = [] if HAS_VLLM else ["test_*.py"]
if HAS_VLLM:
    # Importing it warns of what torch deprecates, and here a warning fails a test.
    with warnings.catch_warnings(action="ignore"):
        importlib.import_module("medreward.engines.judges.vllm")

MODEL = "smollm2-135m-instruct"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies here."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.vllm)
            # vLLM leaves its message contexts to the garbage collector, which is called below.
            item.add_marker(pytest.mark.filterwarnings("ignore:.*:ResourceWarning"))


def vllm_settings(**given: Any) -> Settings:
    """A service with a small engine, and no embedding model."""
    chosen: dict[str, Any] = {"judge": "vllm", "judge_model": MODEL, "embedder": "hashed"}
    return Settings(**{**chosen, "vllm_kv_cache_gib": 1.0, "exam": "off", **given})


@pytest.fixture(scope="module")
def metrics() -> Metrics:
    """What the shared engine counts."""
    return Metrics()


@pytest.fixture(scope="module")
async def judge(language_model: RealEngines, metrics: Metrics) -> AsyncIterator["VllmJudge"]:
    """The engine that one module's tests share, started; it is gone before the next one's."""
    from medreward.engines.judges.vllm import VllmJudge  # noqa: PLC0415 - where there is a vLLM

    built = build_judge(BuildContext(vllm_settings(), language_model.worker, metrics=metrics))
    assert isinstance(built, VllmJudge)
    await built.start()
    yield built
    await built.aclose()
    del built
    gc.collect()


class ServeVllm(Protocol):
    """Serves with a vLLM judge."""

    def __call__(self, **settings: Any) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        """Give a client once the engines are loaded, or have failed to."""
        ...


@pytest.fixture
def serve_vllm() -> ServeVllm:
    """A service in this process, and a client that reaches it over ASGI."""

    @asynccontextmanager
    async def serve(**given: Any) -> AsyncIterator[httpx.AsyncClient]:
        async with over_asgi(create_app(vllm_settings(**given)), timeout=300) as client:
            yield client
        gc.collect()

    return serve


def processes_of(parent: int, title: bytes = b"") -> list[int]:
    """The processes of vLLM below another one, by their title where one is given (Linux)."""
    return [
        pid for pid in _descendants(parent) if (line := _command(pid)) and _is_vllm(line, title)
    ]


def _is_vllm(command: bytes, title: bytes) -> bool:
    # Spawned ones have no title of their own before they have imported vLLM.
    return title in command and (b"VLLM::" in command or b"spawn_main" in command)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _descendants(parent: int) -> Iterator[int]:
    for task in Path(f"/proc/{parent}/task").glob("*/children"):
        try:
            children = [int(pid) for pid in task.read_text().split()]
        except OSError:
            continue
        for child in children:
            yield child
            yield from _descendants(child)


def own_processes(title: bytes = b"") -> list[int]:
    """The processes of vLLM that this test run has started."""
    return processes_of(os.getpid(), title)
