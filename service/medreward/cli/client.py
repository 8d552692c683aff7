"""Talking to a service: finding it, waiting until it is ready, and sending again when it is busy."""

import asyncio
import logging
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

import uvicorn
from pydantic import BaseModel, SecretStr, ValidationError

import medreward
from medreward import logs
from medreward._http import AsyncClient, Response, reaching
from medreward.app import create_app
from medreward.cli.environment import read_settings, service_key
from medreward.cli.jsonl import Line
from medreward.cli.terminal import CommandError, Misuse, silence_other_bars, waiting
from medreward.errors import BackendDown, DeadlinePassed
from medreward.listening import server_config
from medreward.settings import Settings
from medreward.wire import EngineState, ErrorReply, JudgeReply, Readiness, RecipesReply, RewardReply

LOADING = "loading"


class Patience:
    """Runs out when engines load, or keep silent, for too long.

    Large models come from a hub first, so loading may take long; a remote engine that does not
    answer is more likely away than slow.
    """

    def __init__(self, *, loading_s: float = 1800.0, silence_s: float = 60.0) -> None:
        self._loading_s = loading_s
        self._silence_s = silence_s
        self._began_s = time.monotonic()
        self._silent_since_s: float | None = None

    def check(self, readiness: Readiness) -> None:
        """Say whether it is worth waiting on.

        Raises:
            CommandError: the engines cannot be loaded, or time is up.
        """
        if readiness.status in {"failed", "draining"}:
            raise CommandError(reasons(readiness))
        now_s = time.monotonic()
        if not _is_silent(readiness):
            self._silent_since_s = None
        elif self._silent_since_s is None:
            self._silent_since_s = now_s
        elif now_s - self._silent_since_s > self._silence_s:
            raise CommandError(f"{reasons(readiness)}; start it, or mend its URL in the settings")
        if now_s - self._began_s > self._loading_s:
            raise CommandError(f"still loading after {self._loading_s:.0f} s; its log says more")


def what_is_awaited(readiness: Readiness) -> str:
    """Say what is being loaded, or which engine keeps silent."""
    awaited = [
        f"loading the {role} {state.model}".rstrip()
        if state.message == LOADING
        else f"waiting for the {role}: {state.message}"
        for role, state in readiness.engines.items()
        if not state.ready
    ]
    return awaited[0] if awaited else "loading"


def reasons(readiness: Readiness) -> str:
    """Say why the engines are not ready; a reason that both share is said once."""
    said: dict[str, list[str]] = {}
    for role, state in readiness.engines.items():
        if not state.ready and state.message != LOADING:
            said.setdefault(state.message, []).append(role)
    told = "; ".join(f"{' and '.join(roles)}: {message}" for message, roles in said.items())
    return told or f"the service is {readiness.status}"


def _is_silent(readiness: Readiness) -> bool:
    return any(s.message != LOADING for s in readiness.engines.values() if not s.ready)


LOOPBACK = "127.0.0.1"
STOPS_WITHIN_S = 10.0


class Address(NamedTuple):
    """Where a service listens, and what it wants to see."""

    url: str
    key: str | None


@contextmanager
def temporary_service() -> Iterator[Address]:
    """Start a service on a free loopback port, and stop it afterwards.

    Raises:
        Misuse: a setting is wrong.
        SetupError: a setting names something that does not exist.
    """
    # A key of its own: others on this machine may find the port.
    key = secrets.token_urlsafe()
    settings = read_settings(host=LOOPBACK, api_keys=(SecretStr(key),))
    if settings.role in {"judge", "embed"}:
        raise Misuse(
            f"MEDREWARD_ROLE={settings.role} is a part of a service and scores nothing: unset it, "
            "or name a service with --url"
        )
    log_quietly(settings)
    silence_other_bars()
    app = create_app(settings)
    listener = socket.create_server((LOOPBACK, 0))
    server = uvicorn.Server(server_config(app))
    # In a thread, so that uvicorn leaves the signals of this process alone.
    serving = threading.Thread(
        target=server.run, args=([listener],), name="temporary-service", daemon=True
    )
    serving.start()
    try:
        yield Address(f"http://{LOOPBACK}:{listener.getsockname()[1]}", key)
    finally:
        server.should_exit = True
        serving.join(STOPS_WITHIN_S)
        listener.close()


def log_quietly(settings: Settings) -> None:
    """Log only what went wrong, unless the user asked for more."""
    is_asked_for = "log_level" in settings.model_fields_set
    logs.configure(settings.log_level if is_asked_for else "warning", "console")
    # Whoever waits for the engines tells why they failed, in words of their own.
    logging.getLogger("medreward.loading").setLevel(logging.CRITICAL)


M = TypeVar("M", bound=BaseModel)

HEADERS: Final = {"Content-Type": "application/json"}
BUSY: Final = frozenset({429, 503})
CONNECT_S = 5.0
PROBE_S = 10.0
GRACE_S = 30.0
"""Beyond a request's own deadline, for its way there and back."""
POLL_S = 0.2
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 8.0


@dataclass(frozen=True, slots=True)
class Target:
    """Which service to ask, and how long one request to it may take."""

    url: str | None
    """None starts one for the while."""
    key_variable: str
    deadline_s: float

    @property
    def deadline_ms(self) -> int:
        """The deadline as requests state it."""
        return max(1, round(self.deadline_s * 1000))


@dataclass(frozen=True, slots=True)
class Busy:
    """Nothing is wrong with the request; the service could not take it now."""

    reason: str
    retry_after_s: float = 0.0


@dataclass(slots=True)
class Connection:
    """A service that answers."""

    client: AsyncClient
    url: str
    retry_for_s: float = 120.0
    engines: Mapping[str, EngineState] = field(default_factory=dict)

    async def post(self, path: str, body: str) -> Response:
        """Send *body*, again while the service is busy or away.

        Raises:
            CommandError: it stayed so for too long, or the reply is too late.
        """
        clock = asyncio.get_running_loop().time
        give_up_at = clock() + self.retry_for_s
        pause_s = FIRST_PAUSE_S
        while isinstance(got := await self._try(path, body), Busy):
            wait_s = max(pause_s, got.retry_after_s)
            if clock() + wait_s > give_up_at:
                raise CommandError(
                    f"{self.url} took nothing for {self.retry_for_s:.0f} s: {got.reason}"
                )
            await asyncio.sleep(wait_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        return got

    async def recipes(self) -> RecipesReply:
        """Ask which recipes the service has.

        Raises:
            CommandError: it does not say.
        """
        try:
            with reaching():
                response = await self.client.get("recipes")
        except (BackendDown, DeadlinePassed) as exc:
            raise CommandError(f"{self.url}: {exc}") from exc
        return self.read(response, RecipesReply)

    def read(self, response: Response, model: type[M]) -> M:
        """Read a reply.

        Raises:
            CommandError: it is a refusal, or not what medreward would say.
        """
        if response.is_error:
            raise CommandError(f"{self.url} refuses: {refusal(response)}")
        try:
            return model.model_validate_json(response.content)
        except ValidationError as exc:
            raise CommandError(
                f"{self.url} answers in a way that medreward {medreward.__version__} cannot read; "
                "check the URL, and that both have the same version"
            ) from exc

    async def wait_until_ready(self) -> None:
        """Wait for the engines, saying which.

        Raises:
            Misuse: nobody answers there, or not as medreward would.
            CommandError: the engines cannot be loaded, or take too long.
        """
        readiness = await self._readiness()
        if readiness.status != "ready":
            with waiting(what_is_awaited(readiness)) as say:
                readiness = await self._become_ready(say)
        self.engines = readiness.engines

    async def _become_ready(self, say: Callable[[str], None]) -> Readiness:
        patience = Patience()
        while (readiness := await self._readiness()).status != "ready":
            patience.check(readiness)
            say(what_is_awaited(readiness))
            await asyncio.sleep(POLL_S)
        return readiness

    async def _readiness(self) -> Readiness:
        try:
            with reaching():
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

    async def _try(self, path: str, body: str) -> Response | Busy:
        try:
            with reaching():
                response = await self.client.post(path, content=body, headers=HEADERS)
        except BackendDown as exc:
            return Busy(str(exc))
        except DeadlinePassed as exc:
            raise CommandError(
                f"{self.url}: {exc}; send fewer at once (--batch) or wait longer (--deadline)"
            ) from exc
        if response.status_code not in BUSY:
            return response
        return Busy(refusal(response), _retry_after_s(response))


@asynccontextmanager
async def connected(target: Target) -> AsyncIterator[Connection]:
    """Reach the service that is meant, or start one; gives it once it is ready.

    Raises:
        Misuse, SetupError: the URL, the key or a setting is wrong.
        CommandError: its engines cannot be loaded.
    """
    with ExitStack() as stack:
        if target.url is None:
            address = stack.enter_context(temporary_service())
        else:
            address = Address(_checked(target.url), service_key(target.key_variable))
        async with _client(address, target) as client:
            connection = Connection(client, address.url)
            await connection.wait_until_ready()
            yield connection


def refusal(response: Response) -> str:
    """What the service says of a request that it refused."""
    hint = "; set MEDREWARD_KEY to one, or name the variable that has it with --api-key-env"
    try:
        message = ErrorReply.model_validate_json(response.content).error.message
    except ValidationError:
        message = f"HTTP {response.status_code}"
    return message + (hint if response.status_code == 401 else "")  # noqa: PLR2004 - HTTP's number


def _client(address: Address, target: Target) -> AsyncClient:
    reply_s = target.deadline_s + GRACE_S
    return AsyncClient(
        base_url=address.url,
        headers={"Authorization": f"Bearer {address.key}"} if address.key else {},
        timeout=(CONNECT_S, reply_s, reply_s, reply_s),
        # The way to our own service leads through no proxy.
        trust_env=target.url is not None,
    )


def _checked(url: str) -> str:
    with suppress(ValueError):
        parts = urlsplit(url)
        if parts.scheme in {"http", "https"} and parts.hostname:
            return url.rstrip("/")
    raise Misuse(f"--url: {url!r} is no URL; give one such as http://127.0.0.1:8080")


def _retry_after_s(response: Response) -> float:
    value = response.headers.get("retry-after", "")
    return float(value) if value.isdecimal() else 0.0


A = TypeVar("A")
T = TypeVar("T")
Reply = TypeVar("Reply", RewardReply, JudgeReply)

MOST = 64
LEAST = 8
PIECES = 10
IN_FLIGHT = 4
"""Enough to keep the service at work while a reply is on its way."""


def batches(lines: Sequence[T], size: int | None) -> list[Sequence[T]]:
    """Cut *lines* into pieces of *size*; without one, short enough that progress can be seen."""
    size = size or min(MOST, max(LEAST, len(lines) // PIECES))
    return [lines[start : start + size] for start in range(0, len(lines), size)]


async def in_order(
    pieces: Sequence[T], ask: Callable[[T], Coroutine[Any, Any, A]]
) -> AsyncIterator[A]:
    """Ask about each piece, a few at a time; gives the answers in the order of the pieces."""
    asked: deque[asyncio.Task[A]] = deque()
    try:
        for piece in pieces:
            asked.append(asyncio.create_task(ask(piece)))
            if len(asked) == IN_FLIGHT:
                yield await asked.popleft()
        while asked:
            yield await asked.popleft()
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


async def exchange(
    service: Connection, path: str, body: str, batch: Sequence[Line[T]], model: type[Reply]
) -> Reply:
    """Send one batch and read its reply.

    Raises:
        CommandError: it was refused, or the reply does not fit; names the lines.
    """
    response = await service.post(path, body)
    where = f"lines {batch[0].number} to {batch[-1].number}"
    if response.is_error:
        raise CommandError(f"{service.url} refuses {where}: {refusal(response)}")
    reply = service.read(response, model)
    if len(reply.results) != len(batch):
        raise CommandError(
            f"{service.url} gave {len(reply.results)} results for {len(batch)} ({where}); "
            "something between here and there is not medreward"
        )
    return reply
