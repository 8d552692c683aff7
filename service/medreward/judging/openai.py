"""A judge behind any server that speaks OpenAI's protocol: vLLM, SGLang, llama.cpp, hosted ones.

One token is asked for, with its probabilities. What the servers can do is found out at the start,
and the cheapest way that all of them know is taken.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, Literal

import structlog

from medreward._http import REFUSAL_STATUS, AsyncBaseTransport, Reply, encoded, json_of
from medreward.api_key import ApiKey
from medreward.errors import (
    JUDGE_FAILURES,
    BackendDown,
    EngineError,
    Problem,
    ProblemKind,
    SetupError,
)
from medreward.judging.finding import SELF_HOSTED, NoWay, Served, Visit, Wanted
from medreward.judging.judge import Capacity, Inquiry, Judgement
from medreward.judging.prompt import Fence
from medreward.judging.templates import Template, load_templates
from medreward.judging.ways import Chat, Request, Way
from medreward.pacing import Pace
from medreward.rate_limits import RateLimits
from medreward.servers import Pauses, Server, ServerPool
from medreward.spending import CostTracker, Usage

WayName = Literal["auto", "completions", "chat"]
CHEAPEST_FIRST = ("completions", "chat")

SHARE_OF_TIMEOUT = 0.95
"""What is not answered by then is given up, so that what was answered is not lost with it."""
SAME_JUDGE_P = 0.1
"""How far two servers may differ on a probe: other hardware rounds, another model disagrees."""
SAME_JUDGE_ODDS = 8.0
"""The same for the odds of YES: two sure judges agree on easy probes, but are not equally sure."""
SUREST_ODDS = 1e4
"""Beyond these, half precision rounds to anything."""

MAX_TOKENS = 100_000_000
"""Far more than one reply can have taken; a larger number is nonsense, and would spend a budget."""

log = structlog.get_logger(__name__)


class OpenAiJudge:
    """Asks one of several servers for the first token of its verdicts."""

    def __init__(
        self,
        *urls: str,
        model: str,
        revision: str | None = None,
        api_key: ApiKey | None = None,
        headers: Mapping[str, str] | None = None,
        secret: str = "",
        coverage_floor: float = 0.2,
        way: WayName = "auto",
        timeout_s: float = 60.0,
        try_timeout_s: float | None = None,
        limits: RateLimits | None = None,
        costs: CostTracker | None = None,
        pace: Pace | None = None,
        pauses: Pauses | None = None,
        transport: AsyncBaseTransport | None = None,
    ) -> None:
        self._pace = pace or Pace()
        fence = Fence(secret=secret)
        templates = load_templates()
        ordered = sorted(templates.values(), key=lambda template: template.name != "match")
        self._wanted = Wanted(model, fence, coverage_floor, ordered)
        self._way_name = way
        self._limits = limits
        self._costs = costs or CostTracker()
        self._timeout_s = timeout_s
        self._servers = ServerPool(
            urls,
            key=api_key,
            headers=headers,
            timeout_s=timeout_s,
            try_timeout_s=try_timeout_s,
            limits=limits,
            pauses=pauses,
            transport=transport,
        )
        self._served = Served()
        self._expected: Sequence[float] | None = None
        """What each probe gave to YES at the first start."""
        self._servers.examine = self._examine
        self._name = f"openai:{model}@{revision or 'default'}:{fence.identity}:{coverage_floor}"
        self._use(Chat(model, fence, coverage_floor))
        self.why_not_cheaper: Mapping[str, str] = {}
        """The cheaper ways that were not taken, and why."""

    @property
    def way(self) -> str:
        """How the servers are asked: completions or chat."""
        return self._way.name

    def can_answer(self, template: Template) -> bool:
        """A language model understands every template."""
        return bool(template.labels)

    async def start(self) -> None:
        """Find out what the servers can do, and take the cheapest way that all of them know.

        A later start sees that they are still the same judge: other verdicts would be remembered
        under the same identity.

        Raises:
            EngineError: none of them answers yet.
            SetupError: they serve different models, or none that answers in labels.
        """
        visits, served = await self._visit_all()
        if self._expected is not None:
            await asyncio.gather(*(self._examine(server) for server in visits))
        else:
            self._use(await self._cheapest(visits, served))
            try:
                shares = [await visit.shares(self._way) for visit in visits.values()]
            except NoWay as exc:
                # It could a moment ago.
                raise BackendDown(str(exc)) from exc
            _check_agreement(served, shares)
            self._served, self._expected = served, shares[0]
            log.info("judge_way", way=self._way.name, not_taken=dict(self.why_not_cheaper))
        for server in visits:
            server.breaker.succeeded()

    async def decide(self, inquiries: Sequence[Inquiry]) -> Sequence[Judgement | Problem]:
        """Judge each inquiry; what goes wrong with one request concerns its inquiries alone."""
        give_up_s = time.monotonic() + SHARE_OF_TIMEOUT * self._timeout_s
        refusal = self._costs.refusal()
        if refusal is not None:
            return [refusal] * len(inquiries)
        return await self._decide(inquiries, give_up_s)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._servers.aclose()

    def _use(self, way: Way) -> None:
        """Ask so from now on; each way sees a little more or less, so it is part of the identity."""
        self._way = way
        self.identity = f"{self._name}:{way.identity}"
        each = way.capacity
        # A request that takes several bursts would wait for them all, and might be late for good.
        tokens = None if self._limits is None else self._limits.burst_tokens
        self.capacity = Capacity(each.batch, each.concurrency * len(self._servers.all), tokens)

    async def _decide(
        self, inquiries: Sequence[Inquiry], give_up_s: float
    ) -> list[Judgement | Problem]:
        way = self._way
        requests = await self._pace.do(lambda: list(way.requests(inquiries)), len(inquiries))
        parts = await asyncio.gather(
            *(self._send(way, request, inquiries, give_up_s) for request in requests)
        )
        answers = {
            number: answer
            for request, part in zip(requests, parts, strict=True)
            for number, answer in zip(request.members, part, strict=True)
        }
        return [answers[number] for number in range(len(inquiries))]

    async def _send(
        self, way: Way, request: Request, inquiries: Sequence[Inquiry], give_up_s: float
    ) -> list[Judgement | Problem]:
        members = [inquiries[number] for number in request.members]
        left_s = max(0.0, give_up_s - time.monotonic())
        try:
            content = encoded(request.body)
            reply = await self._servers.post(request.path, content, timeout_s=left_s)
            if reply.status in REFUSAL_STATUS or _may_stumble(reply, members):
                return await self._send_halves(members, reply, give_up_s)
            told = await self._pace.do(lambda: json_of(reply), len(members))
            self._book(told, len(content))
            return await self._pace.do(lambda: way.read(told, members), len(members))
        except EngineError as exc:
            return [JUDGE_FAILURES.problem(exc)] * len(members)

    async def _send_halves(
        self, members: Sequence[Inquiry], reply: Reply, give_up_s: float
    ) -> list[Judgement | Problem]:
        """Find the prompt that is refused, or that the server falls over, and spare the others."""
        if len(members) == 1:
            return [_refusal(reply)]
        middle = len(members) // 2
        halves = (members[:middle], members[middle:])
        first, second = await asyncio.gather(*(self._decide(half, give_up_s) for half in halves))
        return [*first, *second]

    def _book(self, told: Any, sent_bytes: int) -> None:
        usage = usage_of(told)
        self._costs.charge(usage)
        if self._limits is not None:
            self._limits.note(sent_bytes, usage.prompt + usage.completion)

    async def _visit_all(self) -> tuple[dict[Server, Visit], Served]:
        """Call on every server; those that do not answer come later, the others have to agree."""
        visits = {server: self._visit(server) for server in self._servers.all}
        calls = (visit.served() for visit in visits.values())
        served = dict(
            zip(visits, await asyncio.gather(*calls, return_exceptions=True), strict=True)
        )
        down = {s: e for s, e in served.items() if isinstance(e, EngineError)}
        for error in served.values():
            if isinstance(error, BaseException) and not isinstance(error, EngineError):
                raise error
        if len(down) == len(visits):
            raise next(iter(down.values()))
        for server, error in down.items():
            self._servers.eject(server, str(error))
        found = [told for told in served.values() if isinstance(told, Served)]
        if len(set(found)) > 1:
            raise SetupError(
                "the servers of MEDREWARD_JUDGE_URL do not serve the same model in the same way: "
                + "; ".join(f"{told.kind} with a window of {told.window_tokens}" for told in found)
            )
        return {s: visit for s, visit in visits.items() if s not in down}, found[0]

    async def _cheapest(self, visits: Mapping[Server, Visit], served: Served) -> Way:
        """Find the cheapest way that is the same on every server."""
        tried: dict[str, str] = {}
        for name in CHEAPEST_FIRST if self._way_name == "auto" else (self._way_name,):
            try:
                ways = await asyncio.gather(*(_find(v, name, served.kind) for v in visits.values()))
            except NoWay as exc:
                tried[name] = str(exc)
                continue
            if len({way.identity for way in ways}) > 1:
                raise SetupError(
                    "the servers of MEDREWARD_JUDGE_URL differ in their chat template or their "
                    "tokens: give them the same model and version"
                )
            self.why_not_cheaper = tried
            return ways[0]
        told = "; ".join(f"{name}: {why}" for name, why in tried.items())
        raise SetupError(f"no way to ask the judge's server ({told})")

    async def _examine(self, server: Server) -> None:
        """See that a server that comes back is still the same judge."""
        visit = self._visit(server)
        if self._expected is None or await visit.served() != self._served:
            raise SetupError("the judge's server serves another model now: restart the service")
        try:
            shares = [self._expected, await visit.shares(self._way)]
            _check_agreement(self._served, shares)
        except NoWay as exc:
            raise SetupError(
                f"the judge's server cannot be asked as before ({exc}): restart the service"
            ) from exc

    def _visit(self, server: Server) -> Visit:
        return Visit(self._wanted, partial(self._servers.ask, server))


async def _find(visit: Visit, name: str, kind: str) -> Way:
    return await (visit.completions() if name == "completions" else visit.chat(kind))


def _check_agreement(served: Served, shares: Sequence[Sequence[float]]) -> None:
    """Refuse servers that are not the same judge; hosted ones are many machines, and may waver."""
    if served.kind not in SELF_HOSTED:
        return
    for other in shares[1:]:
        if not all(_is_near(p, q) for p, q in zip(shares[0], other, strict=True)):
            raise SetupError(
                "the servers of MEDREWARD_JUDGE_URL give different verdicts on the same probe: "
                "give them the same model and revision"
            )


def _is_near(one: float, other: float) -> bool:
    times = max(_odds(one), _odds(other)) / min(_odds(one), _odds(other))
    return abs(one - other) <= SAME_JUDGE_P and times <= SAME_JUDGE_ODDS


def _odds(share: float) -> float:
    least = 1 / SUREST_ODDS
    return min(SUREST_ODDS, max(least, share / max(least, 1.0 - share)))


def usage_of(told: Any) -> Usage:
    """Read the tokens of a reply; zero where it does not tell."""
    parts = told if isinstance(told, list) else [told]
    usages = [part.get("usage") for part in parts if isinstance(part, dict)]
    return Usage(
        prompt=sum(_count(usage, "prompt_tokens") for usage in usages),
        completion=sum(_count(usage, "completion_tokens") for usage in usages),
    )


def _count(usage: object, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and 0 < value <= MAX_TOKENS else 0


def _may_stumble(reply: Reply, members: Sequence[Inquiry]) -> bool:
    """Whether one of several prompts may be what makes the server fall over."""
    return reply.status == HTTPStatus.INTERNAL_SERVER_ERROR and len(members) > 1


def _refusal(reply: Reply) -> Problem:
    """Tell why a server refuses one prompt; its reply is looked at, but not repeated."""
    said = reply.text.casefold()
    is_long = reply.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or any(
        sign in said for sign in ("context length", "context_length", "too long", "maximum")
    )
    kind = ProblemKind.TOO_LONG if is_long else ProblemKind.JUDGE_REFUSED
    return Problem(kind, f"judge: the server refuses this prompt ({reply.status})")
