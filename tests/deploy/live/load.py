"""A constant load whose every reward is known, by plain httpx and by the shipped client at once.

Plain requests are sent once, at set times whatever became of those before, so that each failure
and each wait is seen. The client asks as trainers do, and its retries are part of what is shown.
"""

import asyncio
import hashlib
import itertools
import logging
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from medreward_client import AsyncRewardClient, MedrewardError, Sample, Scored

REQUEST_TIMEOUT_S = 60.0
END_TIMEOUT_S = 120.0
REMEMBERED = 50
"""Samples that come again and again, beside those that are new."""
SAMPLES = 4
"""Of a request; half of them come again."""
SETTLED_OF = 5
"""One sample in so many is settled without an engine."""
CLIENT_PAUSE_S = 0.05

FORMAT_AND_MODALITY = 0.1 + 0.045
JUDGE = 0.5175
TOLERANCE = 1e-6
"""Weights of the recipe medix-r1; the stand-in's vectors of two texts are never near each other."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request of the load: when it was due, how long it took from then, and why it failed."""

    due_s: float
    seconds: float
    failure: str = ""


@dataclass
class Tally:
    """What became of all requests of one kind, and of their samples."""

    is_known: bool = True
    """Whether the stand-in's verdicts decide; else two rewards of a sample only have to agree."""
    requests: list[Request] = field(default_factory=list)
    scored: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    """Rewards that are not the known right ones."""
    rewards: dict[int, float] = field(default_factory=dict)
    """By the sample's number, where the right one is not known beforehand."""
    unscored: Counter[tuple[str, bool]] = field(default_factory=Counter)
    """Samples without a reward, by the reason and whether to send them again."""
    unscored_needlessly: int = 0
    """Those among them that the cache or the rules could have decided."""

    @property
    def failed(self) -> list[Request]:
        """Requests that got no reply with rewards."""
        return [request for request in self.requests if request.failure]

    def seconds(self, since_s: float = 0.0) -> list[float]:
        """How long those took that were due from then on."""
        return [request.seconds for request in self.requests if request.due_s >= since_s]

    def slowest_of_99_percent_s(self, since_s: float = 0.0) -> float:
        """The time that 99 of 100 requests did not exceed."""
        ranked = sorted(self.seconds(since_s))
        return ranked[min(len(ranked) - 1, int(0.99 * len(ranked)))]

    def note_reward(self, number: int, reward: float) -> None:
        """Compare one sample's reward with the right one, or with the one that it had before."""
        right = known_reward(number) if self.is_known else self.rewards.setdefault(number, reward)
        if abs(reward - right) < TOLERANCE:
            self.scored += 1
        else:
            self.wrong[f"{reward} in place of {right}"] += 1

    def note_unscored(self, number: int, kind: str, *, is_retryable: bool) -> None:
        """Count one sample that got a reason instead."""
        self.unscored[kind, is_retryable] += 1
        self.unscored_needlessly += number < REMEMBERED or is_settled(number)


@dataclass
class Load:
    """The load as it goes on."""

    plain: Tally
    client: Tally


ConstantLoad = AbstractAsyncContextManager[Load]


@dataclass
class SentKey:
    """The key that callers send at the moment."""

    key: str = "train-1"
    unanswered: Counter[str] = field(default_factory=Counter)
    """Requests on their way, by the key that they were sent with."""


class WithKey(httpx.AsyncHTTPTransport):
    """Sends each request with the key of the moment."""

    def __init__(self, sent: SentKey) -> None:
        super().__init__(limits=httpx.Limits(max_connections=None, max_keepalive_connections=100))
        self._sent = sent

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request."""
        key = self._sent.key
        request.headers["Authorization"] = f"Bearer {key}"
        self._sent.unanswered[key] += 1
        try:
            return await super().handle_async_request(request)
        finally:
            self._sent.unanswered[key] -= 1


@asynccontextmanager
async def constant_load(
    url: str,
    *,
    requests_a_second: float = 15.0,
    callers: int = 2,
    is_known: bool = True,
    sent_key: SentKey | None = None,
    deadline_s: float = REQUEST_TIMEOUT_S,
) -> AsyncIterator[Load]:
    """Load an address; at the end wait for every answer. *deadline_s* is the client's."""
    load, ends = Load(Tally(is_known), Tally(is_known)), asyncio.Event()
    sent_key = sent_key or SentKey()
    # Not those of an earlier load, which are remembered.
    numbers = itertools.count(REMEMBERED + secrets.randbelow(2**40))
    async with (
        _no_log_of_retries(),
        httpx.AsyncClient(
            base_url=url, timeout=REQUEST_TIMEOUT_S, transport=WithKey(sent_key)
        ) as http,
        AsyncRewardClient(url, deadline_s=deadline_s, transport=WithKey(sent_key)) as client,
        asyncio.timeout(None) as wait,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(_send_on_time(http, load.plain, numbers, 1 / requests_a_second, ends))
        for _ in range(callers):
            group.create_task(_ask_in_turn(client, load.client, numbers, ends))
        yield load
        ends.set()
        wait.reschedule(asyncio.get_running_loop().time() + END_TIMEOUT_S)


@asynccontextmanager
async def _no_log_of_retries() -> AsyncIterator[None]:
    """Silence the client, which would log a line for each retry; other tests read its log."""
    log = logging.getLogger("medreward_client")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


async def remember(url: str, key: str) -> None:
    """Let a replica answer all samples that come again."""
    async with AsyncRewardClient(url, api_key=key) as client:
        reply = await client.reward([Sample(**sample(n)) for n in range(REMEMBERED)])
    assert all(isinstance(result, Scored) for result in reply.results)


async def compare_with(url: str, load: Load) -> None:
    """Ask another service for the rewards that were not known; those that differ were wrong."""
    async with AsyncRewardClient(url) as client:
        for tally in (load.plain, load.client):
            for number, reward in tally.rewards.items():
                right = await client.reward(Sample(**sample(number)))
                assert isinstance(right, Scored), right
                if abs(reward - right.reward) > TOLERANCE:
                    tally.scored -= 1
                    tally.wrong[f"{reward} in place of {right.reward}"] += 1


async def _send_on_time(
    http: httpx.AsyncClient,
    tally: Tally,
    numbers: Iterator[int],
    every_s: float,
    ends: asyncio.Event,
) -> None:
    started_s = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for turn in itertools.count():
            due_s = started_s + turn * every_s
            await asyncio.sleep(due_s - time.monotonic())
            if ends.is_set():
                return
            group.create_task(_send(http, tally, _some(numbers), due_s))


async def _send(
    http: httpx.AsyncClient, tally: Tally, numbers: Sequence[int], due_s: float
) -> None:
    failure = ""
    try:
        reply = await http.post("/reward", json={"samples": [sample(n) for n in numbers]})
    except httpx.HTTPError as exc:
        failure = type(exc).__name__
    else:
        if reply.status_code == httpx.codes.OK:
            for number, result in zip(numbers, reply.json()["results"], strict=True):
                if result["status"] == "scored":
                    tally.note_reward(number, result["reward"])
                else:
                    error = result["error"]
                    tally.note_unscored(number, error["kind"], is_retryable=error["retryable"])
        else:
            failure = str(reply.status_code)
    tally.requests.append(Request(due_s, time.monotonic() - due_s, failure))


async def _ask_in_turn(
    client: AsyncRewardClient, tally: Tally, numbers: Iterator[int], ends: asyncio.Event
) -> None:
    while not ends.is_set():
        some, due_s, failure = _some(numbers), time.monotonic(), ""
        try:
            reply = await client.reward([Sample(**sample(n)) for n in some])
        except MedrewardError as exc:
            failure = type(exc).__name__
        else:
            for number, result in zip(some, reply.results, strict=True):
                if isinstance(result, Scored):
                    tally.note_reward(number, result.reward)
                else:
                    error = result.error
                    tally.note_unscored(number, error.kind, is_retryable=error.retryable)
        tally.requests.append(Request(due_s, time.monotonic() - due_s, failure))
        await asyncio.sleep(CLIENT_PAUSE_S)


def _some(numbers: Iterator[int]) -> list[int]:
    new = [next(numbers) for _ in range(SAMPLES // 2)]
    return new + [number % REMEMBERED for number in new]


def sample(number: int) -> dict[str, Any]:
    """A sample of its own number."""
    return {
        "response": f"<X_RAY><thinking>hm</thinking><answer>{_answer(number)}</answer>",
        "reference": _reference(number),
        "modality": "X_RAY",
    }


def is_settled(number: int) -> bool:
    """Whether a sample needs no engine: its answer is the reference."""
    return number % SETTLED_OF == 0


def known_reward(number: int) -> float:
    """What a sample is worth: the stand-in's judge goes by a hash of answer and reference."""
    if is_settled(number):
        return 1.0
    pair = f"{_answer(number)}\0{_reference(number)}".encode()
    is_yes = hashlib.sha256(pair).digest()[0] % 2 == 0
    return JUDGE * is_yes + FORMAT_AND_MODALITY


def _answer(number: int) -> str:
    return _reference(number) if is_settled(number) else f"finding {number}"


def _reference(number: int) -> str:
    return f"what case {number} shows"
