"""Talking to a service: finding it, waiting until it is ready, and sending again when it is busy."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

import medreward
from medreward.cli.environment import service_key
from medreward.cli.failures import CommandError, Misuse
from medreward.cli.progress import waiting
from medreward.cli.readiness import Patience, what_is_awaited
from medreward.cli.temporary import Address, temporary_service
from medreward.engines.remote.http_client import AsyncClient, Response, reaching
from medreward.engines.status import EngineState, Readiness
from medreward.errors import BackendDown, DeadlinePassed
from medreward.http.schemas import ErrorReply, RecipesReply

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
