"""The composition root: builds the service, owns its lifetime, mounts the routes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

import medreward
from medreward.engines.accelerator import Probe, measure_platform
from medreward.engines.embedder import Embedder
from medreward.engines.judge import Judge
from medreward.errors import MethodNotAllowed, NotFound, Overloaded, RequestError, TooLarge
from medreward.http.intake import service_of
from medreward.http.middleware import DOCS, BearerAuth, OwnPages, RequestLog
from medreward.http.openapi import document, routes_page
from medreward.http.responses import error_response
from medreward.http.routes import compat, engines, probes, scoring
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
    """Build the app; settings are read from the environment if none are given.

    Engines given here are used in place of those that the settings name; *probe* measures the
    machine for the profile `gpu`.

    Raises:
        SetupError: the settings name something that does not exist, or a recipe is wrong.
    """
    service = Service(settings or Settings(), judge=judge, embedder=embedder, probe=probe)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # Not awaited: the server accepts connections only after `yield`, and /livez and /readyz
        # have to answer while the models load.
        running = (_start(service), service.watchdog.run(), service.keys.follow())
        tasks = [asyncio.create_task(one) for one in running]
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
        # FastAPI's pages load scripts from another host, and cannot send a key.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        # FastAPI's own spans contain paths, which may hold keys, and its logs contain invalid input.
        # This service's spans are in telemetry/tracing.py. Releases without telemetry ignore this.
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
        },
    )
    app.state.service = service
    role = service.settings.role
    scoring_routes = [*scoring.STARLETTE_ROUTES, *compat.STARLETTE_ROUTES]
    starlette_routes = [
        *probes.STARLETTE_ROUTES,
        *engines.ROUTES_BY_ROLE.get(role, scoring_routes),
    ]
    # First, since the first match answers: FastAPI's routes for the same paths stay behind them, for
    # the OpenAPI document.
    app.router.routes[:0] = starlette_routes
    if role not in engines.ROUTES_BY_ROLE:
        app.include_router(scoring.router)
        app.include_router(compat.router)
    app.include_router(scoring.operations)
    if service.settings.admin_port is None:
        app.include_router(scoring.counting)
    app.exception_handler(RequestError)(_refuse)
    app.exception_handler(HTTPException)(_refuse_route)
    app.add_middleware(BearerAuth, keys=service.keys)
    app.add_middleware(OwnPages, settings=service.settings)
    # Added last, so it is outermost: refused keys have a request id and a log line too.
    app.add_middleware(
        RequestLog,
        starlette_paths=frozenset(route.path for route in starlette_routes),
        metrics=service.metrics,
        admission=service.admission,
        lifecycle=service.lifecycle,
    )

    # Made once, since it takes half a second of CPU, and `/docs` asks for no key. FastAPI documents
    # this assignment as the way to extend the document.
    app.openapi = cache(lambda: document(app))  # type: ignore[method-assign]

    # FastAPI runs what is no coroutine in a thread, so the first of them holds up no request.
    @app.get(DOCS, include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(routes_page(app))

    @app.get("/openapi.json", include_in_schema=False)
    def openapi() -> JSONResponse:
        return JSONResponse(app.openapi())

    return app


async def _start(service: Service) -> None:
    """Load the engines, then examine the judge while requests are served."""
    await service.load()
    await service.examine()


async def _refuse(request: Request, error: RequestError) -> Response:
    """Build the response to a refused request, and count it if a limit was the reason."""
    if isinstance(error, Overloaded | TooLarge):
        service_of(request).metrics.rejected[error.kind].inc()
    return error_response(error, request.state.request_id)


async def _refuse_route(request: Request, error: HTTPException) -> Response:
    """Build the response to an unknown path, or to a method that its path does not accept."""
    refusal: RequestError = NotFound("no such path; /docs lists those there are")
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        refusal = MethodNotAllowed("this path takes another method; /docs lists them")
    response = error_response(refusal, request.state.request_id)
    response.headers.update(error.headers or {})
    return response
