"""A client for the commands: it connects to a service or starts one, and sends batches.

Requests are retried while the service is busy or unreachable. `medreward_client` is not used,
since the server's distribution does not depend on it.
"""

import asyncio
import logging
import os
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import uvicorn
from pydantic import BaseModel, SecretStr, ValidationError

import medreward
from medreward.app import create_app
from medreward.cli.environment import read_settings, service_key
from medreward.cli.jsonl import Line
from medreward.cli.terminal import CommandError, Misuse, counting, silence_other_bars, waiting
from medreward.engines.remote.http_client import (
    AsyncClient,
    Response,
    proxy_for,
    reaching,
    retry_after_s,
    transport_through,
    via,
)
from medreward.engines.status import EngineState, Readiness
from medreward.errors import BackendDown, DeadlinePassed
from medreward.http.schemas import ErrorBody, ErrorReply, JudgeReply, RecipesReply, RewardReply
from medreward.http.server import server_config
from medreward.settings import Settings
from medreward.telemetry import logs

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")
A = TypeVar("A")
Reply = TypeVar("Reply", RewardReply, JudgeReply)

PATHS: Final[Mapping[type, str]] = {RewardReply: "reward", JudgeReply: "judge"}
HEADERS: Final = {"Content-Type": "application/json"}
BUSY: Final = frozenset({429, 503})
CONNECT_S = 5.0
PROBE_S = 10.0
GRACE_S = 30.0
"""Time for the network, added to a request's own deadline."""
POLL_S = 0.2
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 8.0

LARGEST_BATCH = 64
SMALLEST_BATCH = 8
BATCHES = 10
"""Number of batches of a small file, so that progress is visible."""
IN_FLIGHT = 4
"""Concurrent requests, so that the service is busy while responses are in transit."""

LOADING = "loading"
VARIABLES: Final = frozenset(
    {"ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "SSL_CERT_DIR", "SSL_CERT_FILE"}
)
"""Variables of the environment, in any case, that the HTTP library reads."""
LOOPBACK = "127.0.0.1"
STOPS_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Target:
    """The address and key of a service, and the deadline of one request."""

    url: str | None
    """URL of a running service; None starts one for this command."""
    key_variable: str
    deadline_s: float

    @property
    def deadline_ms(self) -> int:
        """The deadline in milliseconds, as requests carry it."""
        return max(1, round(self.deadline_s * 1000))


class TooMany(CommandError):
    """More lines than the service can take at once; the first *fits* of them are few enough."""

    def __init__(self, message: str, *, fits: int) -> None:
        super().__init__(message)
        self.fits = fits


@dataclass(slots=True)
class Connection:
    """An HTTP client of one service."""

    client: AsyncClient
    url: str
    retry_for_s: float = 120.0
    via: str = ""
    """The proxy between, for messages; empty without one."""
    engines: Mapping[str, EngineState] = field(default_factory=dict)

    async def send_all(
        self,
        pieces: Sequence[Sequence[Line[T]]],
        request_of: Callable[[Sequence[Line[T]]], BaseModel],
        model: type[Reply],
        *,
        title: str,
        noun: str = "lines",
        on_reply: Callable[[Sequence[Line[T]], Reply], None] | None = None,
    ) -> list[Reply]:
        """Send every piece, `IN_FLIGHT` at once, and return the replies in the order of the pieces.

        A piece that the service has no time for at once is sent in parts that fit. *on_reply* is
        called with each piece and its reply, in the same order.

        Raises:
            CommandError: a request was refused, or its reply does not fit.
        """

        async def send(piece: Sequence[Line[T]]) -> Reply:
            try:
                return await self.exchange(request_of(piece), piece, model, noun=noun)
            except TooMany as refused:
                parts = (piece[: refused.fits], piece[refused.fits :])
            return _joined([await send(part) for part in parts])

        replies: list[Reply] = []
        with counting(title, sum(map(len, pieces))) as add:
            async for reply in in_order(pieces, send):
                if on_reply is not None:
                    on_reply(pieces[len(replies)], reply)
                replies.append(reply)
                add(len(reply.results))
        return replies

    async def exchange(
        self,
        request: BaseModel,
        batch: Sequence[Line[Any]],
        model: type[Reply],
        *,
        noun: str = "lines",
    ) -> Reply:
        """Send one batch and return the reply, which has one result for each of its lines.

        Raises:
            TooMany: so many lines do not fit at once, but fewer do.
            CommandError: the request was refused, or the reply does not fit; names the lines.
        """
        response = await self.post(PATHS[model], request.model_dump_json(exclude_unset=True))
        where = f"{noun} {batch[0].number} to {batch[-1].number}"
        fits = error_in(response).fits if response.is_error else None
        if fits is not None and 0 < fits < len(batch):
            raise TooMany(f"{self.url} refuses {where}: {refusal(response)}", fits=fits)
        reply = self._read(response, model, f" {where}")
        if len(reply.results) != len(batch):
            raise CommandError(
                f"{self.url} gave {len(reply.results)} results for {len(batch)} ({where}); "
                "something between here and there is not medreward"
            )
        return reply

    async def post(self, path: str, body: str) -> Response:
        """Send *body*, and retry while the service is busy or cannot be reached.

        Raises:
            CommandError: the service stayed so for too long, or the response is too late.
        """
        clock = asyncio.get_running_loop().time
        give_up_at, pause_s = clock() + self.retry_for_s, FIRST_PAUSE_S
        while True:
            wait_s = pause_s
            try:
                with reaching(self.via):
                    response = await self.client.post(path, content=body, headers=HEADERS)
            except BackendDown as exc:
                reason = str(exc)
            except DeadlinePassed as exc:
                # Not retried: the service has already spent the whole deadline on this batch, and
                # would most likely do so again.
                raise CommandError(
                    f"{self.url}: {exc}; send fewer at once (--batch) or wait longer (--deadline)"
                ) from exc
            else:
                if response.status_code not in BUSY or error_in(response).fits is not None:
                    return response
                reason = refusal(response)
                wait_s = max(pause_s, retry_after_s(response.headers) or 0.0)
            if clock() + wait_s > give_up_at:
                raise CommandError(
                    f"{self.url} took nothing for {self.retry_for_s:.0f} s: {reason}"
                )
            await asyncio.sleep(wait_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def recipes(self) -> RecipesReply:
        """Return the recipes of the service.

        Raises:
            CommandError: the service cannot be reached, or refuses.
        """
        try:
            with reaching(self.via):
                response = await self.client.get("recipes")
        except (BackendDown, DeadlinePassed) as exc:
            raise CommandError(f"{self.url}: {exc}") from exc
        return self._read(response, RecipesReply)

    def _read(self, response: Response, model: type[M], what: str = "") -> M:
        if response.is_error:
            raise CommandError(f"{self.url} refuses{what}: {refusal(response)}")
        try:
            return model.model_validate_json(response.content)
        except ValidationError as exc:
            raise CommandError(
                f"{self.url} answers in a way that medreward {medreward.__version__} cannot read; "
                "check the URL, and that both have the same version"
            ) from exc

    async def wait_until_ready(self) -> None:
        """Wait until the engines are ready, and show which one is loading.

        Raises:
            Misuse: no server answers at the URL, or it is not medreward.
            CommandError: the engines cannot be loaded, or take too long.
        """
        readiness, limit = await self._readiness(), LoadingLimit()
        if not readiness.is_ready:
            with waiting(loading_text(readiness)) as show:
                while not (readiness := await self._readiness()).is_ready:
                    limit.check(readiness)
                    show(loading_text(readiness))
                    await asyncio.sleep(POLL_S)
        self.engines = readiness.engines

    async def _readiness(self) -> Readiness:
        try:
            with reaching(self.via):
                response = await self.client.get(
                    "readyz", timeout=(CONNECT_S, PROBE_S, PROBE_S, PROBE_S)
                )
        except (BackendDown, DeadlinePassed) as exc:
            raise Misuse(
                f"{self.url}: {exc}; check --url, or leave it out to start a service here"
            ) from exc
        try:
            return Readiness.model_validate_json(response.content)
        except ValidationError:
            raise Misuse(
                f"{self.url} is no medreward: its /readyz answers HTTP {response.status_code} "
                "and no readiness; check --url"
            ) from None


@asynccontextmanager
async def connected(target: Target) -> AsyncIterator[Connection]:
    """Connect to the target, or start a service, and yield the connection once it is ready.

    Raises:
        Misuse, SetupError: the URL, the key or a setting is wrong.
        CommandError: the engines cannot be loaded.
    """
    with ExitStack() as stack:
        if target.url is not None:
            url, key = _checked(target.url), service_key(target.key_variable)
        else:
            url, key = stack.enter_context(local_service())
        reply_s = target.deadline_s + GRACE_S
        with _checked_environment():
            # The proxies of the environment do not apply to the local service.
            proxy = proxy_for(url) if target.url is not None else None
            http = AsyncClient(
                base_url=url,
                headers={"Authorization": f"Bearer {key}"} if key else {},
                timeout=(CONNECT_S, reply_s, reply_s, reply_s),
                transport=transport_through(proxy),
            )
        async with http as client:
            connection = Connection(client, url, via=via(proxy))
            await connection.wait_until_ready()
            yield connection


@contextmanager
def _checked_environment() -> Iterator[None]:
    """Name the variables that the HTTP library reads as a client is made, if it cannot use them.

    Raises:
        Misuse: a proxy, an exception from it, or a certificate is wrong.
    """
    try:
        with reaching():
            yield
    except (BackendDown, ValueError, ImportError, OSError) as exc:
        cause = exc.__cause__ if isinstance(exc, BackendDown) else exc
        named = ", ".join(name for name in sorted(os.environ) if name.upper() in VARIABLES)
        raise Misuse(
            f"a proxy or certificate of the environment cannot be used: see to {named} "
            f"({type(cause).__name__}: {getattr(cause, 'strerror', None) or cause})"
        ) from exc


@contextmanager
def local_service() -> Iterator[tuple[str, str]]:
    """Start a service on a free loopback port; yield its URL and key, and stop it afterwards.

    Raises:
        Misuse: a setting is wrong.
        SetupError: a setting names something that does not exist.
    """
    # The key is random, since other users of this machine may find the port and would otherwise
    # be able to use the service.
    key = secrets.token_urlsafe()
    # The service lives for one command, which would be over before an exam is.
    settings = read_settings(host=LOOPBACK, api_keys=(SecretStr(key),), exam="off")
    if settings.role in {"judge", "embed"}:
        raise Misuse(
            f"MEDREWARD_ROLE={settings.role} is a part of a service and scores nothing: unset it, "
            "or name a service with --url"
        )
    log_quietly(settings)
    silence_other_bars()
    app = create_app(settings)
    # The socket listens before the server thread starts, so the port is known and requests
    # queue up until uvicorn accepts them.
    listener = socket.create_server((LOOPBACK, 0))
    server = uvicorn.Server(server_config(app))
    # uvicorn installs signal handlers only in the main thread. In another one, Ctrl-C still
    # interrupts the command.
    thread = threading.Thread(
        target=server.run, args=([listener],), name="local-service", daemon=True
    )
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{listener.getsockname()[1]}", key
    finally:
        server.should_exit = True
        thread.join(STOPS_WITHIN_S)
        listener.close()


def log_quietly(settings: Settings) -> None:
    """Log only warnings and errors, unless the user set a level."""
    is_set = "log_level" in settings.model_fields_set
    logs.configure(settings.log_level if is_set else "warning", "console")
    # The command reports a failed load itself, so the log line would repeat it.
    logging.getLogger("medreward.engines.supervisor").setLevel(logging.CRITICAL)


class LoadingLimit:
    """A time limit for engines that load, and a shorter one for engines that do not respond.

    Large models are downloaded first, so loading may take long; a remote engine that does not
    respond is more likely down than slow.
    """

    def __init__(self, *, loading_s: float = 1800.0, silence_s: float = 60.0) -> None:
        self._loading_s = loading_s
        self._silence_s = silence_s
        self._began_s = time.monotonic()
        self._silent_since_s: float | None = None

    def check(self, readiness: Readiness) -> None:
        """Raise an error if waiting is pointless.

        Raises:
            CommandError: the engines cannot be loaded, or a time limit has passed.
        """
        if readiness.status in {"failed", "draining"}:
            raise CommandError(reasons(readiness))
        now_s = time.monotonic()
        if all(s.message == LOADING for s in readiness.engines.values() if not s.ready):
            self._silent_since_s = None
        elif self._silent_since_s is None:
            self._silent_since_s = now_s
        elif now_s - self._silent_since_s > self._silence_s:
            raise CommandError(f"{reasons(readiness)}; start it, or mend its URL in the settings")
        if now_s - self._began_s > self._loading_s:
            raise CommandError(f"still loading after {self._loading_s:.0f} s; its log says more")


def loading_text(readiness: Readiness) -> str:
    """Describe the engine that is loading, for a spinner."""
    # Engines are loaded in the reverse of the order in which readiness lists them.
    for role, state in reversed(readiness.engines.items()):
        if not state.ready and state.message == LOADING:
            return f"loading the {role} {state.model}".rstrip()
        if not state.ready:
            return f"waiting for the {role}: {state.message}"
    return LOADING if readiness.judge_exam is None else "the judge takes its exam"


def reasons(readiness: Readiness) -> str:
    """Join the reasons of engines that are not ready; a shared reason appears once."""
    roles: dict[str, list[str]] = {}
    for role, state in readiness.engines.items():
        if not state.ready and state.message != LOADING:
            roles.setdefault(state.message, []).append(role)
    told = "; ".join(f"{' and '.join(names)}: {message}" for message, names in roles.items())
    return told or f"the service is {readiness.status}"


def batches(
    lines: Sequence[T],
    size: int | None,
    *,
    together: Callable[[T, T], bool] = lambda _one, _other: False,
) -> list[Sequence[T]]:
    """Cut *lines* into pieces of *size*; by default, small enough that progress is visible.

    A piece is longer if the lines at its end belong *together*.
    """
    size = size or min(LARGEST_BATCH, max(SMALLEST_BATCH, len(lines) // BATCHES))
    pieces, start = [], 0
    while start < len(lines):
        end = start + size
        while end < len(lines) and together(lines[end - 1], lines[end]):
            end += 1
        pieces.append(lines[start:end])
        start = end
    return pieces


async def in_order(
    pieces: Sequence[T], ask: Callable[[T], Coroutine[Any, Any, A]]
) -> AsyncIterator[A]:
    """Call *ask* with each piece, `IN_FLIGHT` at once; yield the results in order."""
    tasks: deque[asyncio.Task[A]] = deque()
    try:
        for piece in pieces:
            # No await here: the task runs while earlier ones are waited for. Only the oldest is
            # awaited, so results keep the order of the pieces.
            tasks.append(asyncio.create_task(ask(piece)))
            if len(tasks) == IN_FLIGHT:
                yield await tasks.popleft()
        while tasks:
            yield await tasks.popleft()
    finally:
        # Tasks are left if one failed or the caller stopped early. They are awaited after the
        # cancellation, so that none of them uses the HTTP client once it is closed.
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def refusal(response: Response) -> str:
    """Return the message of an error response, or its status if the body has no message."""
    hint = "; set MEDREWARD_KEY to one, or name the variable that has it with --api-key-env"
    message = error_in(response).message
    return message + (hint if response.status_code == 401 else "")  # noqa: PLR2004 - HTTP's number


def error_in(response: Response) -> ErrorBody:
    """Return the error of a refusal; one of another server has its status alone."""
    try:
        return ErrorReply.model_validate_json(response.content).error
    except ValidationError:
        return ErrorBody(kind="", message=f"HTTP {response.status_code}", retryable=False)


def _joined(replies: Sequence[Reply]) -> Reply:
    """Join the replies to the parts of a piece; the counts of the first stay, which nobody reads."""
    results = [result for reply in replies for result in reply.results]
    return replies[0].model_copy(update={"results": results})


def _checked(url: str) -> str:
    with suppress(ValueError):
        parts = urlsplit(url)
        is_host = bool(parts.hostname) and url.isprintable() and " " not in url
        # A port that is none raises ValueError when it is read.
        if parts.scheme in {"http", "https"} and is_host and parts.port != 0:
            return url.rstrip("/")
    raise Misuse(f"--url: {url!r} is no URL; give one such as http://127.0.0.1:8080")
