"""Asking a process of ours that holds an engine: which one it is, and then its answers."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Literal

import structlog
from pydantic import ValidationError

from medreward._http import AsyncBaseTransport, Reply, encoded, json_of
from medreward.api_key import ApiKey
from medreward.errors import BackendDown, EngineError, NonsenseReply, SetupError
from medreward.judging.judge import Capacity
from medreward.roles.wire import EngineFacts
from medreward.servers import Server, ServerPool

REQUESTS_IN_FLIGHT = 8
"""To each server; a request is one batch, and what several ask at once is batched again there."""
AHEAD = 2
"""Batches under way for each that the engine works on, so that it never waits for the network."""
SHARE_OF_TIMEOUT = 0.95

log = structlog.get_logger(__name__)


class Calls:
    """The processes of one role, which all have to hold the same engine."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        role: Literal["judge", "embed"],
        key: ApiKey | None,
        headers: Mapping[str, str] | None,
        timeout_s: float,
        try_timeout_s: float | None,
        transport: AsyncBaseTransport | None,
    ) -> None:
        self._role = role
        self._timeout_s = timeout_s
        self._servers = ServerPool(
            urls,
            key=key,
            headers=headers,
            timeout_s=timeout_s,
            try_timeout_s=try_timeout_s,
            in_flight_each=REQUESTS_IN_FLIGHT,
            transport=transport,
        )
        self._servers.examine = self._examine
        self._facts: EngineFacts | None = None

    @property
    def facts(self) -> EngineFacts:
        """What the processes hold.

        Raises:
            BackendDown: none has answered yet.
        """
        if self._facts is None:
            raise BackendDown(f"no process of the role {self._role} has answered yet")
        return self._facts

    @property
    def capacity(self) -> Capacity:
        """What suits them all together."""
        if self._facts is None:
            return Capacity(1)
        facts = self._facts
        each = min(REQUESTS_IN_FLIGHT, AHEAD * facts.concurrency)
        return Capacity(facts.batch, each * len(self._servers.all), facts.tokens)

    async def start(self) -> EngineFacts:
        """Find out what the processes hold; a later start sees that it is still the same.

        Raises:
            EngineError: none of them answers yet.
            SetupError: they do not hold the same.
        """
        servers = self._servers.all
        visits = await asyncio.gather(*(self._visit(s) for s in servers), return_exceptions=True)
        found: list[EngineFacts] = []
        down: dict[Server, EngineError] = {}
        for server, visit in zip(servers, visits, strict=True):
            if isinstance(visit, EngineFacts):
                found.append(visit)
            elif isinstance(visit, EngineError):
                down[server] = visit
            else:
                raise visit
        if not found:
            raise next(iter(down.values()))
        expected = self._facts or found[0]
        for facts in found:
            _check_same(expected, facts)
        for server, error in down.items():
            self._servers.eject(server, str(error))
        for server in servers:
            if server not in down:
                server.breaker.succeeded()
        self._facts = found[0]
        return found[0]

    async def ask(self, path: str, body: Mapping[str, object]) -> Any:
        """Give the JSON that a process answers; None where it takes less at once.

        Raises:
            EngineError: no process answers, or not in time, or not what was asked.
        """
        give_up_s = time.monotonic() + SHARE_OF_TIMEOUT * self._timeout_s
        left_ms = round(1000 * (give_up_s - time.monotonic()))
        content = encoded({"identity": self.facts.identity, "deadline_ms": left_ms, **body})
        reply = await self._servers.post(
            path.removeprefix("/"), content, timeout_s=SHARE_OF_TIMEOUT * self._timeout_s
        )
        return None if _is_too_large(reply) else _answer(reply)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._servers.aclose()

    async def _visit(self, server: Server) -> EngineFacts:
        reply = await self._servers.ask(server, "GET", "engine")
        if reply.status == HTTPStatus.UNAUTHORIZED:
            raise SetupError(
                f"the process of the role {self._role} refuses our key: give it one of its own "
                f"MEDREWARD_API_KEYS in MEDREWARD_{_setting(self._role)}_API_KEY"
            )
        try:
            facts = EngineFacts.model_validate(json_of(reply))
        except ValidationError as exc:
            raise NonsenseReply("what answers there does not say which engine it holds") from exc
        if facts.role != self._role:
            raise SetupError(
                f"MEDREWARD_{_setting(self._role)}_URL: the process there has the role "
                f"{facts.role}, not {self._role}"
            )
        return facts

    async def _examine(self, server: Server) -> None:
        """See that a process that comes back still holds the same engine."""
        _check_same(self.facts, await self._visit(server))


def _answer(reply: Reply) -> Any:
    if reply.status == HTTPStatus.UNPROCESSABLE_ENTITY:
        raise NonsenseReply("the process of that role is of another version: upgrade both")
    return json_of(reply)


def _is_too_large(reply: Reply) -> bool:
    return reply.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE


def _setting(role: str) -> str:
    return {"judge": "JUDGE", "embed": "EMBEDDER"}[role]


def _check_same(expected: EngineFacts, found: EngineFacts) -> None:
    """Refuse answers that would be remembered as another engine's."""
    if found.identity != expected.identity:
        setting = f"MEDREWARD_{_setting(expected.role)}_URL"
        raise SetupError(
            f"the processes of {setting} hold different engines, or another than at the start "
            f"({expected.identity}, {found.identity}): give them one model and revision, or "
            "restart this service"
        )
