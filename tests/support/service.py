"""A service, or any other app, in this process: over ASGI, or on a port in a thread."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from medreward.http.server import server_config
from medreward.service import Service
from tests.support.wait import wait_until

LOOPBACK = "127.0.0.1"


async def loaded(app: FastAPI) -> Service:
    """Wait until an app's engines are loaded, or have failed to."""
    service: Service = app.state.service
    # Readiness is asked for from outside, by polling, so the service has no event to wait for.
    while service.engines.status == "loading":  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    return service


@asynccontextmanager
async def over_asgi(app: FastAPI, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Run an app in this event loop, loaded; gives a client, whose *options* are httpx's own."""
    async with app.router.lifespan_context(app):
        await loaded(app)
        # Starlette raises an error again after its reply; the reply is what tests look at.
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        client = httpx.AsyncClient(transport=transport, base_url="http://localhost", **options)
        async with client:
            yield client


@dataclass(frozen=True, slots=True)
class Listener:
    """A server in a thread of this process, on a port of its own."""

    port: int
    server: uvicorn.Server

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self.server.server_state.connections)


@contextmanager
def listening(app: ASGIApp, port: int = 0, **options: Any) -> Iterator[Listener]:
    """Serve an app on loopback, by default on a free port, in a thread; *options* are uvicorn's."""
    with socket.create_server((LOOPBACK, port)) as taken:
        server = uvicorn.Server(server_config(app, **options))
        thread = threading.Thread(target=server.run, args=([taken],))
        thread.start()
        try:
            # One that is told to end before it has started never ends its app's lifespan.
            wait_until(lambda: server.started or not thread.is_alive())
            yield Listener(taken.getsockname()[1], server)
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def served(app: ASGIApp) -> Iterator[str]:
    """Serve an app on a free port of loopback; gives the address."""
    with listening(app) as listener:
        yield listener.url
