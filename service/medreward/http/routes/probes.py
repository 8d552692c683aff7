"""Probes and metrics for the operator's systems: alive, started, ready, and the counters.

They are plain functions, served by the public port, by the admin port, or by both.
"""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from medreward.http import schemas
from medreward.http.intake import service_of
from medreward.http.responses import json_response

READY_ALIASES = ("/health", "/healthz", "/ping")
"""Readiness paths that load balancers know from other servers."""
PROBES = ("/livez", "/readyz", "/startupz", *READY_ALIASES)
STALLED_S = 60.0
"""If the event loop makes no turn for so long, `/livez` reports a stall and the process is restarted.
Loading a model can block the loop for some seconds."""


async def livez(request: Request) -> Response:
    """Report that the process is alive; 503 if its event loop has stalled."""
    silent_s = service_of(request).watchdog.silent_s
    if silent_s > STALLED_S:
        return json_response(schemas.Liveness(status="stalled"), 503)
    return json_response(schemas.Liveness())


async def readyz(request: Request) -> Response:
    """Report whether the models are loaded, warm and answering; 503 if not, while draining, and in a stall."""
    readiness = service_of(request).readiness
    return json_response(readiness, 200 if readiness.is_ready else 503)


async def startupz(request: Request) -> Response:
    """Report the stage of the start; 503 until all engines of this process were ready once."""
    startup = service_of(request).startup
    return json_response(startup, 200 if startup.stage == "ready" else 503)


async def metrics(request: Request) -> Response:
    """Expose Prometheus metrics."""
    exposition = service_of(request).metrics.exposition()
    return Response(exposition, media_type="text/plain; version=0.0.4; charset=utf-8")


STARLETTE_ROUTES = [
    Route("/livez", livez),
    Route("/startupz", startupz),
    *(Route(path, readyz) for path in ("/readyz", *READY_ALIASES)),
]
"""The routes of the probes, for GET and HEAD."""
