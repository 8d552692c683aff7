"""What every test may lean on: asyncio, and an app with engines of the test's choice."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from medreward.app import create_app
from medreward.engines.embedder import Embedder
from medreward.engines.embedders.hashed import HashedEmbedder
from medreward.engines.judge import Judge
from medreward.engines.judges.scripted import ScriptedJudge
from medreward.engines.registry import BuildContext, build_embedder, build_judge
from medreward.service import Service
from medreward.settings import Settings

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

    @asynccontextmanager
    async def serve(
        *, judge: Judge | None = None, embedder: Embedder | None = None, **settings: Any
    ) -> AsyncIterator[httpx.AsyncClient]:
        app = create_app(
            Settings(**{"judge": "scripted", "embedder": "hashed", "recipe": MEDIX} | settings),
            judge=judge or ScriptedJudge(),
            embedder=embedder or HashedEmbedder(),
        )
        async with app.router.lifespan_context(app):
            await loaded(app)
            # Starlette's errors are for its own reply, not for the test's stack.
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                yield client

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


async def loaded(app: FastAPI) -> Service:
    """Wait until an app's engines are loaded, or have failed to."""
    service: Service = app.state.service
    # Readiness is asked for from outside, by polling, so the service has no event to wait for.
    while service.engines.status == "loading":  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    return service
