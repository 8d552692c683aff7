"""A judge behind any server with OpenAI's protocol: vLLM, SGLang, llama.cpp, hosted ones.

A request generates one token with its probabilities. The servers' dialects are discovered at the
start, and the cheapest that all of them support is used.
"""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, Literal, Unpack

import structlog

from medreward.admission import Deadline
from medreward.engines.bisection import bisect
from medreward.engines.capacity import Capacity
from medreward.engines.judge import Inquiry, Judgement
from medreward.engines.prompts.fence import Fence
from medreward.engines.remote.budget import CostTracker, Usage
from medreward.engines.remote.dialects import Chat, Dialect, by_request
from medreward.engines.remote.discovery import (
    SELF_HOSTED,
    JudgeSpec,
    Probe,
    ServedModel,
    Unsupported,
)
from medreward.engines.remote.http_client import REFUSAL_STATUS, Reply, encoded, json_of
from medreward.engines.remote.pool import Server, ServerOptions, ServerPool
from medreward.engines.remote.rate_limits import RateLimits
from medreward.engines.templates import Template, load_templates
from medreward.errors import (
    JUDGE_FAILURES,
    BackendDown,
    EngineError,
    Problem,
    ProblemKind,
    SetupError,
)
from medreward.offload import Offloader

WayName = Literal["auto", "completions", "chat"]
CHEAPEST_FIRST = ("completions", "chat")

SAME_JUDGE_P = 0.1
"""The largest difference of two servers' P(YES) on a probe that rounding may explain."""
SAME_JUDGE_ODDS = 8.0
"""The largest ratio of their odds: other models agree on easy probes, but are not equally sure."""
SUREST_ODDS = 1e4
"""Odds are clipped here: beyond, half precision is meaningless."""

MAX_TOKENS = 100_000_000
"""Far more than one reply can take; a larger count is invalid, and would exhaust a budget."""

log = structlog.get_logger(__name__)


class OpenAiJudge:
    """Requests the first token of each verdict from one of several servers."""

    def __init__(
        self,
        *urls: str,
        model: str,
        revision: str | None = None,
        secret: str = "",
        coverage_floor: float = 0.2,
        way: WayName = "auto",
        limits: RateLimits | None = None,
        costs: CostTracker | None = None,
        offload: Offloader | None = None,
        **options: Unpack[ServerOptions],
    ) -> None:
        self._offload = offload or Offloader()
        fence = Fence(secret=secret)
        templates = load_templates()
        ordered = sorted(templates.values(), key=lambda template: template.name != "match")
        self._spec = JudgeSpec(model, fence, coverage_floor, ordered)
        self._way_name = way
        self._limits = limits
        self._costs = costs or CostTracker()
        self._servers = ServerPool(urls, limits=limits, **options)
        self._served = ServedModel()
        self._expected: Sequence[float] | None = None
        """The probability of YES for each probe at the first start."""
        self._servers.examine = self._examine
        self._name = f"openai:{model}@{revision or 'default'}:{fence.identity}:{coverage_floor}"
        self._use(Chat(model, fence, coverage_floor))
        self.why_not_cheaper: Mapping[str, str] = {}
        """The reason against each cheaper dialect, by its name."""

    @property
    def way(self) -> str:
        """The name of the dialect in use: completions or chat."""
        return self._dialect.name

    def can_answer(self, template: Template) -> bool:
        """Return True: a language model can answer every template."""
        return bool(template.labels)

    async def start(self) -> None:
        """Discover the servers' dialects, and use the cheapest that all of them support.

        A later start checks that they are still the same judge: other verdicts would be cached
        under the same identity.

        Raises:
            EngineError: none of them answers yet.
            SetupError: they serve different models, or a model that does not answer in labels.
        """
        found = await self._servers.ask_each(lambda server: self._probe(server).served())
        if self._expected is not None:
            await asyncio.gather(*(self._examine(server) for server in found))
        else:
            served, *others = dict.fromkeys(found.values())
            if others:
                raise SetupError(
                    "the servers of MEDREWARD_JUDGE_URL do not serve the same model in the same way: "
                    + "; ".join(
                        f"{m.kind} with a window of {m.window_tokens}" for m in found.values()
                    )
                )
            self._use(await self._cheapest([self._probe(server) for server in found], served.kind))
            shares = [await self._p_yes(server) for server in found]
            _check_agreement(served, shares)
            self._served, self._expected = served, shares[0]
            log.info("judge_way", way=self.way, not_taken=dict(self.why_not_cheaper))
        for server in found:
            server.breaker.succeeded()

    async def decide(self, inquiries: Sequence[Inquiry]) -> Sequence[Judgement | Problem]:
        """Judge each inquiry; a failed request leaves the answers of the others."""
        refusal = self._costs.refusal()
        if refusal is not None:
            return [refusal] * len(inquiries)
        ask = partial(self._ask, dialect=self._dialect, deadline=self._servers.deadline())
        requests = by_request(self._dialect, inquiries)
        parts = await asyncio.gather(
            *(bisect([inquiries[number] for number in members], ask) for members in requests)
        )
        answers = {
            number: answer
            for members, part in zip(requests, parts, strict=True)
            for number, answer in zip(members, part, strict=True)
        }
        return [answers[number] for number in range(len(inquiries))]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._servers.aclose()

    def _use(self, dialect: Dialect) -> None:
        """Set the dialect. It is part of the identity, since each dialect reads other tokens."""
        self._dialect = dialect
        self.identity = f"{self._name}:{dialect.identity}"
        each = dialect.capacity
        # A request of several bursts would wait for all of them, and could be late each time.
        tokens = None if self._limits is None else self._limits.burst_tokens
        self.capacity = Capacity(each.batch, each.concurrency * len(self._servers.all), tokens)

    async def _ask(
        self, members: Sequence[Inquiry], dialect: Dialect, deadline: Deadline
    ) -> list[Judgement | Problem] | Problem:
        """Send one request; a problem if the server refuses it, or fails with several prompts."""
        try:
            body = await self._offload.run(lambda: dialect.body(members), len(members))
            content = encoded(body)
            reply = await self._servers.post(dialect.path, content, deadline)
            # One of several prompts may be the cause of an internal error.
            has_stumbled = reply.status == HTTPStatus.INTERNAL_SERVER_ERROR and len(members) > 1
            if reply.status in REFUSAL_STATUS or has_stumbled:
                return _refusal(reply)
            told = await self._offload.run(lambda: json_of(reply), len(members))
            usage = usage_of(told)
            self._costs.charge(usage)
            if self._limits is not None:
                self._limits.note(len(content), usage.prompt + usage.completion)
            return await self._offload.run(lambda: dialect.read(told, members), len(members))
        except EngineError as exc:
            return [JUDGE_FAILURES.problem(exc)] * len(members)

    async def _cheapest(self, probes: Sequence[Probe], kind: str) -> Dialect:
        """Find the cheapest dialect that all servers support in the same form."""
        tried: dict[str, str] = {}
        for name in CHEAPEST_FIRST if self._way_name == "auto" else (self._way_name,):
            found = await asyncio.gather(
                *(p.completions() if name == "completions" else p.chat(kind) for p in probes)
            )
            refused = [one.reason for one in found if isinstance(one, Unsupported)]
            dialects = [one for one in found if not isinstance(one, Unsupported)]
            if refused:
                tried[name] = refused[0]
                continue
            if len({dialect.identity for dialect in dialects}) > 1:
                raise SetupError(
                    "the servers of MEDREWARD_JUDGE_URL differ in their chat template or their "
                    "tokens: give them the same model and version"
                )
            self.why_not_cheaper = tried
            return dialects[0]
        told = "; ".join(f"{name}: {why}" for name, why in tried.items())
        raise SetupError(f"no way to ask the judge's server ({told})")

    async def _examine(self, server: Server) -> None:
        """Check that an ejected server is still the same judge."""
        probe = self._probe(server)
        if self._expected is None or await probe.served() != self._served:
            raise SetupError("the judge's server serves another model now: restart the service")
        shares = await probe.p_yes(self._dialect)
        if isinstance(shares, Unsupported):
            raise SetupError(
                f"the judge's server cannot be asked as before ({shares.reason}): restart the "
                "service"
            )
        _check_agreement(self._served, [self._expected, shares])

    async def _p_yes(self, server: Server) -> list[float]:
        shares = await self._probe(server).p_yes(self._dialect)
        if isinstance(shares, Unsupported):
            # The dialect worked a moment ago, so the settings are not the cause of its failure.
            raise BackendDown(shares.reason)
        return shares

    def _probe(self, server: Server) -> Probe:
        return Probe(self._spec, partial(self._servers.ask, server))


def _check_agreement(served: ServedModel, shares: Sequence[Sequence[float]]) -> None:
    """Refuse servers whose probabilities differ; hosted ones are exempt, since they vary by machine."""
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
    """Parse the tokens of a reply; zero if it does not report them."""
    parts = told if isinstance(told, list) else [told]
    usages = [part.get("usage") for part in parts if isinstance(part, dict)]
    return Usage(
        prompt=sum(_count(usage, "prompt_tokens") for usage in usages),
        completion=sum(_count(usage, "completion_tokens") for usage in usages),
    )


def _count(usage: object, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and 0 < value <= MAX_TOKENS else 0


def _refusal(reply: Reply) -> Problem:
    """Classify a server's refusal of one prompt by its reply, which is not repeated."""
    said = reply.text.casefold()
    is_long = reply.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or any(
        sign in said for sign in ("context length", "context_length", "too long", "maximum")
    )
    kind = ProblemKind.TOO_LONG if is_long else ProblemKind.JUDGE_REFUSED
    return Problem(kind, f"judge: the server refuses this prompt ({reply.status})")
