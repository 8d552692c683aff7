"""An engine in other processes of the same service: its description, and its answers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, ClassVar, Generic, Literal, TypeVar, Unpack

from pydantic import ValidationError

from medreward.engines.bisection import bisect
from medreward.engines.capacity import Capacity
from medreward.engines.remote.http_client import encoded, json_of
from medreward.engines.remote.peer_schemas import EngineFacts
from medreward.engines.remote.pool import Server, ServerOptions, ServerPool
from medreward.errors import BackendDown, Failures, NonsenseReply, Problem, ProblemKind, SetupError
from medreward.offload import Offloader

Q = TypeVar("Q")
A = TypeVar("A")

REQUESTS_IN_FLIGHT = 8
"""Requests in flight to each process, each with one batch; the process forms batches of its own."""
AHEAD = 2
"""Batches sent for each that the engine works on, so that it never waits for the network."""


class Peer(ABC, Generic[Q, A]):
    """Sends questions to the processes of one role, which all have to hold the same engine."""

    role: ClassVar[Literal["judge", "embed"]]
    path: ClassVar[str]
    """The route that answers questions."""
    failures: ClassVar[Failures]

    def __init__(
        self, *urls: str, offload: Offloader | None = None, **options: Unpack[ServerOptions]
    ) -> None:
        self._offload = offload or Offloader()
        # These processes are parts of one service: a proxy is for what lies outside.
        self._servers = ServerPool(
            urls, in_flight_each=REQUESTS_IN_FLIGHT, uses_proxy=False, **options
        )
        self._servers.examine = self._examine
        self._facts: EngineFacts | None = None

    @abstractmethod
    def _body(self, questions: Sequence[Q]) -> dict[str, object]:
        """Build the body of a request with these questions."""

    @abstractmethod
    def _read(self, told: Any, questions: Sequence[Q]) -> list[A | Problem]:
        """Parse the route's reply.

        Raises:
            ValueError: it is not one answer for each question.
        """

    @property
    def facts(self) -> EngineFacts:
        """The processes' description of their engine.

        Raises:
            BackendDown: no process has answered yet.
        """
        if self._facts is None:
            raise BackendDown(f"no process of the role {self.role} has answered yet")
        return self._facts

    @property
    def identity(self) -> str:
        """The identity of the engine itself, so that cached answers are the same wherever it runs."""
        return self.facts.identity

    @property
    def model(self) -> str:
        """The name of the engine's model in its process."""
        return self.facts.model

    @property
    def capacity(self) -> Capacity:
        """The capacity of all processes together."""
        if self._facts is None:
            return Capacity(1)
        each = min(REQUESTS_IN_FLIGHT, AHEAD * self._facts.concurrency)
        return Capacity(self._facts.batch, each * len(self._servers.all), self._facts.tokens)

    async def start(self) -> None:
        """Ask the processes for their engine; a later start checks that it is still the same.

        Raises:
            EngineError: none of them answers yet.
            SetupError: they do not hold the same.
        """
        found = await self._servers.ask_each(self._visit)
        first, *_ = found.values()
        for facts in found.values():
            self._check_same(self._facts or first, facts)
        for server in found:
            server.breaker.succeeded()
        self._facts = first

    async def aclose(self) -> None:
        """Close the connections."""
        await self._servers.aclose()

    async def _answers(self, questions: Sequence[Q]) -> list[A | Problem]:
        """Ask all questions in one request, or in several if a process takes no body so large.

        Raises:
            EngineError: no process answers, or too late, or with an invalid reply.
        """
        return await bisect(questions, self._ask)

    async def _ask(self, questions: Sequence[Q]) -> list[A | Problem] | Problem:
        body = await self._offload.run(lambda: self._body(questions), len(questions))
        deadline = self._servers.deadline()
        deadline_ms = round(1000 * deadline.left_s)
        content = encoded({"identity": self.identity, "deadline_ms": deadline_ms, **body})
        reply = await self._servers.post(self.path.removeprefix("/"), content, deadline)
        if reply.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            message = f"{self.failures.engine}: its process takes no body so large"
            return Problem(ProblemKind.TOO_LONG, message)
        if reply.status == HTTPStatus.UNPROCESSABLE_ENTITY:
            raise NonsenseReply("the process of that role is of another version: upgrade both")
        told = json_of(reply)
        try:
            return await self._offload.run(lambda: self._read(told, questions), len(questions))
        except ValueError as exc:
            raise NonsenseReply(
                f"the {self.failures.engine}'s process did not send one answer for each of "
                f"{len(questions)} questions"
            ) from exc

    async def _visit(self, server: Server) -> EngineFacts:
        reply = await self._servers.ask(server, "GET", "engine")
        if reply.status == HTTPStatus.UNAUTHORIZED:
            raise SetupError(
                f"the process of the role {self.role} refuses our key: give it one of its own "
                f"MEDREWARD_API_KEYS in MEDREWARD_{self.failures.engine.upper()}_API_KEY"
            )
        try:
            facts = EngineFacts.model_validate(json_of(reply))
        except ValidationError as exc:
            raise NonsenseReply("what answers there does not say which engine it holds") from exc
        if facts.role != self.role:
            raise SetupError(
                f"{self._url_setting}: the process there has the role {facts.role}, not {self.role}"
            )
        return facts

    async def _examine(self, server: Server) -> None:
        """Check that a process that comes back still holds the same engine."""
        self._check_same(self.facts, await self._visit(server))

    @property
    def _url_setting(self) -> str:
        return f"MEDREWARD_{self.failures.engine.upper()}_URL"

    def _check_same(self, expected: EngineFacts, found: EngineFacts) -> None:
        """Refuse answers that would be cached as another engine's."""
        if found.identity != expected.identity:
            raise SetupError(
                f"the processes of {self._url_setting} hold different engines, or another than at "
                f"the start ({expected.identity}, {found.identity}): give them one model and "
                "revision, or restart this service"
            )
