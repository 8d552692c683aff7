"""Middleware of every request: its id, its origin, its key, its log line and its metrics.

It is plain ASGI, since Starlette's own base class hides from a route that its caller hung up.
"""

import hmac
import ipaddress
import re
import time
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medreward.admission import Admission
from medreward.api_keys import KeyRing
from medreward.engines.remote.peer_schemas import ENGINE_ROUTES
from medreward.errors import Forbidden, RequestError, Unauthorized
from medreward.http.responses import bug_response, error_response
from medreward.http.routes.probes import PROBES
from medreward.lifecycle import Lifecycle
from medreward.settings import LOOPBACK, Settings
from medreward.telemetry.logs import place_of
from medreward.telemetry.metrics import Metrics
from medreward.telemetry.tracing import end_request, request_span

DOCS = "/docs"
OPEN_PATHS = frozenset({*PROBES, DOCS})
"""Routes that ask for no key, which a browser does not send; they tell nothing of samples."""
KEYED_ROUTES = ("/compat/openrlhf", "/compat/slime")
"""Routes of trainers that cannot send a header: the path may end with the key."""
QUIET_ROUTES = frozenset({*PROBES, "/metrics"})
"""Routes that are requested every few seconds; successes are logged at debug level only."""
REPLIES_TO_MOVE_ON = 50
"""Engine replies of this process of which the last closes its connection."""
LONG_REPLY_BYTES = 64 * 1024
"""Longer replies are not sent at once: what asyncio buffers before it waits for the caller."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

log = structlog.get_logger(__name__)


class RequestLog:
    """Gives each request an id, and writes its log line, its metrics and its span.

    *starlette_paths* are those that FastAPI does not serve, so the scope does not name their route.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        starlette_paths: frozenset[str],
        metrics: Metrics,
        admission: Admission,
        lifecycle: Lifecycle,
    ) -> None:
        self._app = app
        self._admission = admission
        self._starlette_paths = starlette_paths
        self._metrics = metrics
        self._lifecycle = lifecycle
        self._replies = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; an unexpected error becomes a response with status 500."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = Headers(scope=scope).get("x-request-id", "")
        request_id = sent if _REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        # Before the span, the log and the metrics read the path: the key must reach none of them.
        _take_key_from_path(scope)
        code = 0

        async def send_with_id(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                if self._lifecycle.has_begun or self._is_last_reply(scope["path"]):
                    # A client that kept the connection would send its next request to a process
                    # that has ended, or always to the same one of several.
                    headers["Connection"] = "close"
            elif len(message.get("body", b"")) > LONG_REPLY_BYTES and not message.get("more_body"):
                # uvicorn waits for the caller to read the last message only if another follows.
                with self._admission.reply(len(message["body"])):
                    await send({**message, "more_body": True})
                    await send({"type": "http.response.body"})
                return
            await send(message)

        started = time.perf_counter()
        method = scope["method"] if scope["method"] in METHODS else "OTHER"
        counts = scope["path"] not in QUIET_ROUTES
        self._lifecycle.unanswered += counts
        with request_span(method, Headers(scope=scope)) as span:
            try:
                await self._app(scope, receive, send_with_id)
            except Exception as exc:  # noqa: BLE001 - whatever it is, the caller gets a response
                # By its type and place: its message might quote a sample.
                error, where = type(exc).__name__, place_of(exc)
                log.error("bug", error=error, where=where, request_id=request_id)  # noqa: TRY400
                if code == 0:
                    await bug_response(request_id)(scope, receive, send_with_id)
            finally:
                self._lifecycle.unanswered -= counts
                self._record(scope, method, request_id, code, time.perf_counter() - started)
                end_request(span, method=method, route=self._route(scope), code=code)

    def _is_last_reply(self, path: str) -> bool:
        """Return whether to close an engine client's connection, so that it connects again.

        Behind one address for several processes, such as a Kubernetes Service, a connection stays
        with one process: a restarted one would get no requests until other connections break.
        """
        if path not in ENGINE_ROUTES:
            return False
        self._replies += 1
        return self._replies % REPLIES_TO_MOVE_ON == 0

    def _route(self, scope: Scope) -> str:
        """Return the route's path with its placeholders: a label with few values."""
        if scope["path"] in self._starlette_paths:
            return str(scope["path"])
        return str(getattr(scope.get("route"), "path", "unmatched"))

    def _record(
        self, scope: Scope, method: str, request_id: str, code: int, seconds: float
    ) -> None:
        route = self._route(scope)
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


def _take_key_from_path(scope: Scope) -> None:
    """Move a key from the path to the scope's state, before anything logs or counts the path."""
    for route in KEYED_ROUTES:
        if scope["path"].startswith(f"{route}/"):
            scope["state"]["path_key"] = scope["path"][len(route) + 1 :]
            scope["path"], scope["raw_path"] = route, route.encode()


class OwnPages:
    """Refuses what web pages of others send to a service without keys, which trusts its network.

    A browser sends along what any page asks for, also to this machine or to an inner network. It
    names the page's host in `Origin`, or tells by `Sec-Fetch-Site` that it is another. A page whose
    own name was made to lead here has that name in `Host`. Other callers send neither header.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self._app = app
        self._has_keys = bool(settings.api_keys)
        self._is_local = settings.host in LOOPBACK
        self._names = frozenset(map(str.lower, settings.allowed_hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it with status 403."""
        # No page of others knows a key. Open paths do nothing, and are asked for under any name.
        if scope["type"] == "http" and not self._has_keys and scope["path"] not in OPEN_PATHS:
            refusal = self._refusal(Headers(scope=scope))
            if refusal is not None:
                error = Forbidden(
                    f"{refusal}: if that host is your own, add it to MEDREWARD_ALLOWED_HOSTS, or "
                    "set MEDREWARD_API_KEYS"
                )
                await error_response(error, scope["state"]["request_id"])(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, headers: Headers) -> str | None:
        """Return why a request may come from a page of others; None if it does not."""
        host, origin = headers.get("host", "").lower(), headers.get("origin")
        if self._is_local and not self._is_own_name(host):
            return "`Host` is no name of this service, which listens on loopback"
        if origin is not None:
            page = origin.lower().partition("://")[2]
            is_own = page != "" and (page == host or _name_of(page) in self._names)
            return None if is_own else "`Origin` is a web page of another host"
        if headers.get("sec-fetch-site") == "cross-site":
            return "`Sec-Fetch-Site` tells that a web page of another host sent this"
        return None

    def _is_own_name(self, host: str) -> bool:
        name = _name_of(host)
        is_loopback = name in {"", "localhost"} or name.endswith(".localhost")
        return is_loopback or name in self._names or _is_address(name)


def _name_of(host: str) -> str:
    """Return a host without its port and final dot."""
    return re.sub(r":\d*$", "", host).removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


class BearerAuth:
    """Accepts only requests with one of the keys; without any configured key, accepts all.

    Each caller has a namespace in the cache, so callers with different keys share no entries.
    """

    def __init__(self, app: ASGIApp, *, keys: KeyRing) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it with status 401."""
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
        """Return the namespace of the request's key; None if the key is unknown."""
        namespaces = self._keys.namespaces
        if not namespaces or scope["path"] in OPEN_PATHS:
            return ""
        key = _sent_key(scope)
        # Every key is compared in full, so that the time taken reveals nothing about the keys.
        found = [
            namespace for known, namespace in namespaces.items() if hmac.compare_digest(key, known)
        ]
        return found[0] if found else None


def _sent_key(scope: Scope) -> bytes:
    """Return the key at the end of the path, or of the header; empty if the request has neither."""
    if "path_key" in scope["state"]:
        in_path: str = scope["state"]["path_key"]
        return in_path.encode("utf-8", "surrogatepass")
    scheme, _, sent = Headers(scope=scope).get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return b""
    # Starlette decodes header bytes as Latin-1, so this restores them as they were sent.
    return sent.strip(" \t").encode("latin-1")
