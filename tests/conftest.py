"""What every test may lean on: asyncio, and an app with engines of the test's choice."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from medreward.app import create_app
from medreward.embedding.embedder import Embedder
from medreward.embedding.hashed import HashedEmbedder
from medreward.judging.judge import Judge
from medreward.judging.scripted import ScriptedJudge
from medreward.service import Service
from medreward.settings import Settings

Serve = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Asyncio is what uvicorn runs."""
    return "asyncio"


@pytest.fixture
def serve() -> Serve:
    """A service in this process, loaded and ready, and a client that reaches it over ASGI."""

    @asynccontextmanager
    async def serve(
        *, judge: Judge | None = None, embedder: Embedder | None = None, **settings: Any
    ) -> AsyncIterator[httpx.AsyncClient]:
        app = create_app(
            Settings(judge="scripted", embedder="hashed", **settings),
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


async def loaded(app: FastAPI) -> Service:
    """Wait until an app's engines are loaded, or have failed to."""
    service: Service = app.state.service
    while service.engines.status == "loading":
        await asyncio.sleep(0.001)
    return service
