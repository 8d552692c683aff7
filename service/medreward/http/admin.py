"""The admin port: probes, metrics and drain, in a thread and an event loop of their own.

Probes are answered under any load of scoring requests, and `/livez` can report that the service's
event loop has stalled.
"""

import asyncio
import hmac
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from medreward.errors import InvalidRequest, RequestError, Unauthorized
from medreward.http import schemas
from medreward.http.intake import service_of
from medreward.http.responses import error_response, json_response
from medreward.http.routes.probes import STARLETTE_ROUTES, metrics
from medreward.http.server import Bounds, server_config
from medreward.service import Service

LONGEST_WAIT_S = 3600.0
STOP_TIMEOUT_S = 5.0
MOST_CONNECTIONS = 64
BACKLOG = 16
"""Length of the accept queue. If files run out, asyncio logs an error for each place in it."""


def admin_app(service: Service) -> Starlette:
    """Make the app of the admin port."""
    app = Starlette(
        routes=[
            *STARLETTE_ROUTES,
            Route("/metrics", metrics),
            Route("/drain", drain, methods=["POST"]),
            Route("/drain", take_back, methods=["DELETE"]),
        ],
        exception_handlers={RequestError: _refuse},
    )
    app.state.service = service
    return app


async def drain(request: Request) -> Response:
    """Turn unready, refuse requests after the delay, and respond when none is in flight.

    `?wait_s=` bounds the wait; 0 responds at once with 202. If requests are left, the status is 504.
    """
    service = service_of(request)
    _check_token(request, service)
    wait_s = _wait_s(request, service.lifecycle.longest_s)
    service.lifecycle.begin()
    if wait_s == 0:
        return _drained(service, 202)
    is_done = await asyncio.to_thread(service.lifecycle.wait, wait_s)
    return _drained(service, 200 if is_done else 504)


async def take_back(request: Request) -> Response:
    """Cancel a drain: serve requests again."""
    service = service_of(request)
    _check_token(request, service)
    service.lifecycle.take_back()
    return _drained(service, 200)


def _refuse(_: Request, error: Any) -> Response:
    return error_response(error, "")


@contextmanager
def administering(service: Service, listener: socket.socket | None) -> Iterator[None]:
    """Serve the admin port until the block ends, if it has a listener."""
    if listener is None:
        yield
        return
    # No lifespan: the public app loads and closes the service, and this app only reads it.
    config = server_config(
        admin_app(service),
        Bounds(connections=MOST_CONNECTIONS),
        backlog=BACKLOG,
        lifespan="off",
        timeout_graceful_shutdown=1,
        loop="asyncio",
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": [listener]}, name="admin", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(STOP_TIMEOUT_S)


def _check_token(request: Request, service: Service) -> None:
    token = service.settings.drain_token
    if token is None:
        raise Unauthorized("this service drains by signal alone: it has no MEDREWARD_DRAIN_TOKEN")
    scheme, _, sent = Headers(scope=request.scope).get("authorization", "").partition(" ")
    known = token.get_secret_value().encode()
    if scheme.lower() != "bearer" or not hmac.compare_digest(sent.strip().encode("latin-1"), known):
        raise Unauthorized("send MEDREWARD_DRAIN_TOKEN as `Authorization: Bearer <token>`")


def _wait_s(request: Request, default_s: float) -> float:
    sent = request.query_params.get("wait_s")
    try:
        wait_s = default_s if sent is None else float(sent)
    except ValueError:
        wait_s = -1.0
    if not 0 <= wait_s <= LONGEST_WAIT_S:
        raise InvalidRequest(f"wait_s: a number of seconds, from 0 to {LONGEST_WAIT_S:.0f}")
    return wait_s


def _drained(service: Service, status: int) -> Response:
    return json_response(
        schemas.Drained(status=service.lifecycle.status, in_flight=service.lifecycle.in_flight),
        status,
    )
