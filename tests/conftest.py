"""What every test may lean on: asyncio, and an app with engines of the test's choice."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from medreward.app import create_app
from medreward.engines.embedder import Embedder
from medreward.engines.embedders.hashed import HashedEmbedder
from medreward.engines.judge import Judge
from medreward.engines.judges.scripted import ScriptedJudge
from medreward.engines.registry import BuildContext, build_embedder, build_judge
from medreward.settings import Settings
from tests.support.process import Service, serving
from tests.support.service import over_asgi

pytest_plugins = ["tests.redis_servers"]

MEDIX = "medix-r1"

Serve = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Asyncio is what uvicorn runs."""
    return "asyncio"


@pytest.fixture
def serve() -> Serve:
    """A service in this process, loaded and ready, and a client that reaches it over ASGI.

    Its default recipe is the published one, which asks the engines whatever an answer says.
    """

    def serve(
        *, judge: Judge | None = None, embedder: Embedder | None = None, **settings: Any
    ) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        chosen = {"judge": "scripted", "embedder": "hashed", "recipe": MEDIX} | settings
        judge, embedder = judge or ScriptedJudge(), embedder or HashedEmbedder()
        return over_asgi(create_app(Settings(**chosen), judge=judge, embedder=embedder))

    return serve


@dataclass(frozen=True)
class RealEngines:
    """The engines of the embedded profile, with their models."""

    judge: Judge
    embedder: Embedder
    worker: Executor


@pytest.fixture(scope="session")
def real_engines() -> Iterator[RealEngines]:
    """The embedded profile, loaded once; `medreward models fetch` has to have been run."""
    with ThreadPoolExecutor(max_workers=1) as worker:
        context = BuildContext(Settings(), worker)
        yield RealEngines(build_judge(context), build_embedder(context), worker)


@pytest.fixture(scope="session")
def language_model() -> Iterator[RealEngines]:
    """The language model of the embedded profile as the judge of everything."""
    with ThreadPoolExecutor(max_workers=1) as worker:
        context = BuildContext(Settings(judge="causal_lm"), worker)
        yield RealEngines(build_judge(context), build_embedder(context), worker)


@pytest.fixture(scope="session")
def embedded_service() -> Iterator[Service]:
    """The embedded profile with its default recipe, as a process; tests share its cache."""
    with serving(None, recipe="medix-r1-guarded") as service:
        yield service
