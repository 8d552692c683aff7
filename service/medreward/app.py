"""The composition root: builds the service, owns its lifetime, mounts the routes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import Route

import medreward
from medreward.engines.accelerator import Probe, measure_platform
from medreward.engines.embedder import Embedder
from medreward.engines.judge import Judge
from medreward.errors import MethodNotAllowed, NotFound, Overloaded, RequestError, TooLarge
from medreward.http.middleware import BearerAuth, RequestLog
from medreward.http.openapi import document
from medreward.http.responses import error_response
from medreward.http.routes import compat
from medreward.http.routes.engines import embed_routes, judge_routes
from medreward.http.routes.probes import probe_routes
from medreward.http.routes.scoring import counting, operations, reward, router
from medreward.http.routes.scoring import judge as judge_answers
from medreward.service import Service
from medreward.settings import Settings

DESCRIPTION = (
    f"Turns free-form medical answers into training rewards and grades. {medreward.NOTICE}"
)


def create_app(
    settings: Settings | None = None,
    *,
    judge: Judge | None = None,
    embedder: Embedder | None = None,
    probe: Probe = measure_platform,
) -> FastAPI:
    """Build the app; the only place that reads the environment.

    Engines given here are used in place of those that the settings name; *probe* measures the
    machine for the profile `gpu`.

    Raises:
        SetupError: the settings name something that does not exist, or a recipe is wrong.
    """
    service = Service(settings or Settings(), judge=judge, embedder=embedder, probe=probe)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # In the background, so that /livez and /readyz answer while the models load.
        tasks = [
            asyncio.create_task(service.load()),
            asyncio.create_task(service.watchdog.run()),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await service.aclose()

    app = FastAPI(
        title="medreward",
        version=medreward.__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        # FastAPI's own spans hold paths, where keys may stand, and its logs what was sent wrong;
        # ours are in telemetry/tracing.py. A release that has none ignores this.
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
        },
    )
    app.state.service = service
    app.router.routes[:0] = probe_routes()
    if service.settings.role == "judge":
        app.router.routes.extend(judge_routes())
    elif service.settings.role == "embed":
        app.router.routes.extend(embed_routes())
    else:
        _score(app)
    app.include_router(operations)
    if service.settings.admin_port is None:
        app.include_router(counting)
    app.exception_handler(RequestError)(_refuse)
    app.exception_handler(HTTPException)(_refuse_route)
    keys = [key.get_secret_value() for key in service.settings.api_keys]
    app.add_middleware(
        BearerAuth, api_keys=keys, shares_cache=service.settings.share_cache_between_keys
    )
    app.add_middleware(RequestLog, metrics=service.metrics, lifecycle=service.lifecycle)
    # FastAPI's own way to extend the document.
    app.openapi = lambda: document(app)  # type: ignore[method-assign]
    return app


def _score(app: FastAPI) -> None:
    """Mount what callers come for."""
    # FastAPI documents these; plain routes before them answer, at a third of the cost a request.
    app.router.routes[:0] = [
        Route("/reward", reward, methods=["POST"]),
        Route("/judge", judge_answers, methods=["POST"]),
        *compat.PLAIN,
    ]
    app.include_router(router)
    app.include_router(compat.router)


async def _refuse(request: Request, error: RequestError) -> Response:
    """Write the reply for a request that was refused."""
    if isinstance(error, Overloaded | TooLarge):
        request.app.state.service.metrics.rejected[error.kind].inc()
    return error_response(error, request.state.request_id)


async def _refuse_route(request: Request, error: HTTPException) -> Response:
    """Write the reply for a path or method that there is not."""
    refusal: RequestError = NotFound("no such path; /docs lists those there are")
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        refusal = MethodNotAllowed("this path takes another method; /docs lists them")
    response = error_response(refusal, request.state.request_id)
    response.headers.update(error.headers or {})
    return response
