"""What every request passes on its way in and out: its id, its key, its log line, its metrics.

Plain ASGI, so that a route can still see its caller hang up.
"""

import hashlib
import hmac
import re
import time
import uuid
from collections.abc import Sequence

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medreward.engines.remote.peer_schemas import ENGINE_ROUTES
from medreward.errors import RequestError, Unauthorized
from medreward.http.responses import bug_response, error_response
from medreward.http.routes.probes import PROBES
from medreward.lifecycle import Lifecycle
from medreward.telemetry.logs import place_of
from medreward.telemetry.metrics import Metrics
from medreward.telemetry.tracing import end_request, request_span

OPEN_PATHS = frozenset(PROBES)
KEYED_ROUTES = ("/compat/openrlhf", "/compat/slime")
"""Those of trainers that send no header: behind them the path may hold the key."""
PLAIN_ROUTES = frozenset({"/reward", "/judge", "/verify", *KEYED_ROUTES, *PROBES, *ENGINE_ROUTES})
"""Those that FastAPI does not serve, so that it names no route."""
QUIET_ROUTES = frozenset({*PROBES, "/metrics"})
"""They come every few seconds, and say nothing when all is well."""
REPLIES_TO_MOVE_ON = 50
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

log = structlog.get_logger(__name__)


class RequestLog:
    """Gives each request an id, and writes one log line and one observation about it."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, lifecycle: Lifecycle) -> None:
        self._app = app
        self._metrics = metrics
        self._lifecycle = lifecycle
        self._replies = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope).get("x-request-id", ""))
        scope.setdefault("state", {})["request_id"] = request_id
        _take_key_from_path(scope)
        code = 0

        async def send_with_id(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                if self._lifecycle.has_begun or self._moves_on(scope["path"]):
                    # Who keeps a connection to a process that leaves would send into the void.
                    headers["Connection"] = "close"
            await send(message)

        started = time.perf_counter()
        method = scope["method"] if scope["method"] in METHODS else "OTHER"
        with request_span(method, Headers(scope=scope)) as span:
            try:
                await self._app(scope, receive, send_with_id)
            except Exception as exc:  # noqa: BLE001 - whatever it is, the caller gets a reply
                _log_bug(exc, request_id)
                if code == 0:
                    await bug_response(request_id)(scope, receive, send_with_id)
            finally:
                self._note(scope, method, request_id, code, time.perf_counter() - started)
                end_request(span, method=method, route=_route(scope), code=code)

    def _moves_on(self, path: str) -> bool:
        """Whether one of our processes is to connect anew.

        Behind one address for several, as a Service of Kubernetes is, a connection goes to the same
        process for ever: one that was restarted would not be asked until others break.
        """
        if path not in ENGINE_ROUTES:
            return False
        self._replies += 1
        return self._replies % REPLIES_TO_MOVE_ON == 0

    def _note(self, scope: Scope, method: str, request_id: str, code: int, seconds: float) -> None:
        route = _route(scope)
        self._metrics.requests[route, method, str(code)].inc()
        self._metrics.request_seconds.observe((route,), (seconds,))
        is_quiet = code < 400 and route in QUIET_ROUTES  # noqa: PLR2004 - HTTP's own number
        (log.debug if is_quiet else log.info)(
            "request",
            request_id=request_id,
            route=route,
            method=method,
            status=code,
            duration_ms=round(seconds * 1000, 1),
        )


def _log_bug(error: Exception, request_id: str) -> None:
    """Log what should not have happened by its type and place: its message might quote a sample."""
    log.error("bug", error=type(error).__name__, where=place_of(error), request_id=request_id)


def _request_id(sent: str) -> str:
    return sent if _REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex


def _take_key_from_path(scope: Scope) -> None:
    """Put a key that stands in the path elsewhere, before anything reads, logs or counts the path."""
    for route in KEYED_ROUTES:
        if scope["path"].startswith(f"{route}/"):
            scope["state"]["path_key"] = scope["path"][len(route) + 1 :]
            scope["path"], scope["raw_path"] = route, route.encode()


def _route(scope: Scope) -> str:
    """The route's path with its placeholders, so that the label is one of few."""
    if scope["path"] in PLAIN_ROUTES:
        return str(scope["path"])
    return str(getattr(scope.get("route"), "path", "unmatched"))


class BearerAuth:
    """Lets a request pass only with one of the keys; without keys, all pass.

    What callers with different keys had judged is kept apart in the cache: each key has a
    namespace, from which the key cannot be read off.
    """

    def __init__(self, app: ASGIApp, *, api_keys: Sequence[str], shares_cache: bool) -> None:
        self._app = app
        self._namespaces = {
            key.encode(): "" if shares_cache else namespace_of(key) for key in api_keys
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] == "http":
            namespace = self._namespace(scope)
            if namespace is None:
                refusal: RequestError = Unauthorized(
                    "send one of this deployment's keys as `Authorization: Bearer <key>`, "
                    "or on a route of a trainer that cannot, at the end of the path"
                )
                await error_response(refusal, scope["state"]["request_id"])(scope, receive, send)
                return
            scope["state"]["namespace"] = namespace
        await self._app(scope, receive, send)

    def _namespace(self, scope: Scope) -> str | None:
        """Give the namespace of the key that was sent; None where it is none of ours."""
        if not self._namespaces or scope["path"] in OPEN_PATHS:
            return ""
        key = _sent_key(scope)
        # Every key is compared, so that the time taken does not tell which one came close.
        found = [
            namespace
            for known, namespace in self._namespaces.items()
            if hmac.compare_digest(key, known)
        ]
        return found[0] if found else None


def _sent_key(scope: Scope) -> bytes:
    """Give the key at the end of the path, else that of the header; nothing is no key either."""
    if "path_key" in scope["state"]:
        in_path: str = scope["state"]["path_key"]
        return in_path.encode("utf-8", "surrogatepass")
    scheme, _, sent = Headers(scope=scope).get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return b""
    # A header's bytes come as characters of Latin-1, whatever they were meant to be.
    return sent.strip(" \t").encode("latin-1")


def namespace_of(api_key: str) -> str:
    """Name the part of the cache that callers with this key share."""
    return hashlib.sha256(b"namespace:" + api_key.encode()).hexdigest()[:16]
