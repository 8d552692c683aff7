"""Half an hour of mixed load with faults: is every score right, and does memory stay flat?

usage: python benchmarks/soak.py [--minutes 30] [--faults 0.01] [--clients 6] [--set NAME=VALUE ...]

The stand-in answers a share of the requests by errors, nonsense, silence or a dropped connection;
clients send new and remembered samples, malformed bodies and too long samples, and hang up. Each
reward is compared with the published rules. A wrong score, an unexpected status or something left
behind ends it with an error; memory is flat if the median of the last third, after warming up, is
at most 5 % over that of the first. `--set` passes settings on, such as `--set redis_url=…`.
"""

import argparse
import asyncio
import contextlib
import json
import math
import random
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from rich.table import Table

from baselines.medix_r1 import PUBLISHED, expected
from figures import options, show
from rollouts import Burst, Rollout, make_rollouts, nonces
from running import Server, service, stand_in
from verdicts import says_yes

WARM_UP_SHARE = 0.2
FLAT = 1.05
SETTLING_S = 15.0
LOOKS = 240
ROWS = 16
ENGINE_TIMEOUT_S = 3.0
"""What silence costs; shorter than the stand-in's."""
TIMEOUT_S = 60.0
TOO_LONG = "long " * 60_000
ACCEPTED = {HTTPStatus.OK, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
REFUSED = {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}
MALFORMED = (
    b"",
    b"{",
    b'{"samples": []}',
    b'{"samples": [{"response": 1, "reference": "a"}]}',
    b'{"samples": [{"response": "a"}]}',
    b'{"samples": [{"response": "a", "reference": "b"}], "recipe": "no-such-recipe"}',
    b'{"samples": [{"response": "a", "reference": "b", "referense": "c"}]}',
)


@dataclass(frozen=True, slots=True)
class Look:
    """The service at one moment."""

    minute: float
    resident_mb: float
    open_files: int
    sockets: int
    threads: int
    in_flight: float
    waiting: float
    outcomes: int


class Client:
    """Sends one thing after another, chosen at random, and checks what comes back."""

    def __init__(self, url: str, seed: int, outcomes: Counter[str]) -> None:
        self._url = url
        self._chance = random.Random(seed)  # noqa: S311 - the same load every time
        self._outcomes = outcomes
        self._nonces = nonces()
        self._batch = Burst(make_rollouts(64))
        self._known = Burst(make_rollouts(256, seed=11))
        self._known_nonce = "000000000000"
        self._one = Burst(make_rollouts(1))

    async def send_until(self, ends_s: float, pause_s: float) -> None:
        """Send until the clock says so."""
        weighted: dict[Callable[[], Awaitable[None]], int] = {
            self._new_batch: 4,
            self._known_batch: 4,
            self._new_one: 8,
            self._judge: 2,
            self._too_long: 1,
            self._malformed: 2,
            self._hang_up: 2,
            self._half_a_body: 1,
        }
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        headers = {"Content-Type": "application/json"}
        async with aiohttp.ClientSession(self._url, timeout=timeout, headers=headers) as self._http:
            while time.monotonic() < ends_s:
                (act,) = self._chance.choices([*weighted], [*weighted.values()])
                await act()
                await asyncio.sleep(self._chance.uniform(0, 2 * pause_s))

    async def _new_batch(self) -> None:
        nonce = next(self._nonces)
        await self._score(self._batch.body(nonce), self._batch.renewed(nonce))

    async def _known_batch(self) -> None:
        rollouts = self._known.renewed(self._known_nonce)
        await self._score(self._known.body(self._known_nonce), rollouts)

    async def _new_one(self) -> None:
        nonce = next(self._nonces)
        await self._score(self._one.body(nonce), self._one.renewed(nonce))

    async def _too_long(self) -> None:
        nonce = next(self._nonces)
        rollouts = self._batch.renewed(nonce)[:8]
        samples = [rollout.sample() for rollout in rollouts]
        samples[3]["response"] += TOO_LONG
        reply = await self._post("/reward", json.dumps({"samples": samples}).encode(), ACCEPTED)
        if reply is not None:
            if reply["results"][3]["error"]["kind"] != "too_long":
                raise SystemExit("a sample over the limit was not refused as too long")
            self._check(reply["results"], rollouts)

    async def _judge(self) -> None:
        rollouts = self._batch.renewed(next(self._nonces))[:16]
        items = [{"answer": r.answer, "reference": r.truth} for r in rollouts]
        reply = await self._post("/judge", json.dumps({"items": items}).encode(), ACCEPTED)
        for rollout, result in zip(rollouts, reply["results"] if reply else (), strict=False):
            self._count(result)
            is_yes = says_yes(rollout.answer, rollout.truth)
            if result["status"] == "judged" and result["verdict"] != ("YES" if is_yes else "NO"):
                raise SystemExit("a wrong verdict")

    async def _malformed(self) -> None:
        await self._post("/reward", self._chance.choice(MALFORMED), REFUSED)

    async def _hang_up(self) -> None:
        work = asyncio.ensure_future(self._new_batch())
        await asyncio.wait([work], timeout=self._chance.uniform(0, 0.1))
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        self._outcomes["hung up"] += 1

    async def _half_a_body(self) -> None:
        host = urlsplit(self._url)
        _, writer = await asyncio.open_connection(host.hostname, host.port)
        head = b"POST /reward HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
        writer.write(head + b'{"samples": [')
        await writer.drain()
        writer.close()
        self._outcomes["half a body"] += 1

    async def _score(self, body: bytes, rollouts: Sequence[Rollout]) -> None:
        reply = await self._post("/reward", body, ACCEPTED)
        if reply is not None:
            self._check(reply["results"], rollouts)

    def _check(self, results: Sequence[dict[str, Any]], rollouts: Sequence[Rollout]) -> None:
        for result, rollout in zip(results, rollouts, strict=True):
            self._count(result)
            right = expected(rollout.response, rollout.reference, PUBLISHED)
            if result["status"] == "scored" and not math.isclose(result["reward"], right):
                raise SystemExit(f"a wrong score: {result['reward']} where {right} is right")

    def _count(self, result: dict[str, Any]) -> None:
        error = result["error"]
        self._outcomes[f"unscored: {error['kind']}" if error else result["status"]] += 1

    async def _post(self, path: str, body: bytes, allowed: set[HTTPStatus]) -> Any:
        """The reply, or None where the request was refused as it may be."""
        async with self._http.post(path, data=body) as reply:
            content = await reply.read()
        if reply.status not in allowed:
            raise SystemExit(f"{path}: an unexpected {reply.status}: {content[:300]!r}")
        if reply.status != HTTPStatus.OK:
            self._outcomes[f"HTTP {reply.status}"] += 1
            return None
        return json.loads(content)


def look(server: Server, since_s: float, outcomes: Counter[str]) -> Look:
    """Look at the service from outside."""
    files = server.open_files
    lines = server.connect().get("/metrics").decode().splitlines()
    gauges = [line.split() for line in lines if not line.startswith("#")]
    threads = len(list(Path(f"/proc/{server.pid}/task").iterdir()))
    return Look(
        minute=(time.monotonic() - since_s) / 60,
        resident_mb=server.resident_mb,
        open_files=len(files),
        sockets=sum(name.startswith("socket:") for name in files),
        threads=threads,
        in_flight=sum(float(v) for name, v in gauges if name == "medreward_inflight_requests"),
        waiting=sum(float(v) for name, v in gauges if name.startswith("medreward_queue_depth")),
        outcomes=outcomes.total(),
    )


async def soak(server: Server, arguments: argparse.Namespace) -> tuple[list[Look], Counter[str]]:
    """Keep the clients sending, and look now and then."""
    seconds = 5.0 if arguments.quick else arguments.minutes * 60
    outcomes: Counter[str] = Counter()
    started = time.monotonic()
    looks = [look(server, started, outcomes)]
    async with asyncio.TaskGroup() as group:
        for seed in range(arguments.clients):
            client = Client(server.url, seed, outcomes)
            group.create_task(client.send_until(started + seconds, arguments.pause_ms / 1000))
        while (left := started + seconds - time.monotonic()) > 0:
            await asyncio.sleep(min(left, max(0.5, seconds / LOOKS)))
            looks.append(await asyncio.to_thread(look, server, started, outcomes))
    await asyncio.sleep(SETTLING_S if not arguments.quick else ENGINE_TIMEOUT_S + 1)
    looks.append(look(server, started, outcomes))
    return looks, outcomes


def growth(looks: Sequence[Look]) -> float:
    """Memory in the last third over that in the first, the warm-up left out."""
    sizes = [each.resident_mb for each in looks[1:-1]]
    sizes = sizes[int(len(sizes) * WARM_UP_SHARE) :]
    third = max(1, len(sizes) // 3)
    return statistics.median(sizes[-third:]) / statistics.median(sizes[:third])


def looks_table(looks: Sequence[Look]) -> Table:
    """The service over time; the last row after all clients have gone."""
    columns = ("MB", "open files", "sockets", "threads", "in flight", "waiting", "answered")
    table = Table("minute", *columns, title="The service over time, at rest in the last row")
    step = max(1, len(looks) // ROWS)
    for each in [*looks[:-1:step], looks[-1]]:
        numbers = (each.open_files, each.sockets, each.threads, each.in_flight, each.waiting)
        row = (f"{each.resident_mb:.0f}", *(f"{n:.0f}" for n in numbers), f"{each.outcomes:,}")
        table.add_row(f"{each.minute:.1f}", *row)
    return table


def outcomes_table(outcomes: Counter[str], engines: Server) -> Table:
    """What became of what was sent, and the faults that the engines were given."""
    table = Table("outcome", "number", title="What became of it")
    for name, number in outcomes.most_common():
        table.add_row(name, f"{number:,}")
    for name, number in engines.get("/stats")["calls"].items():
        table.add_row(f"stand-in, {name}", f"{number:,}")
    return table


def main() -> None:
    """Soak, print, and stop with an error where something is left behind or memory grew."""
    parser = options(__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--faults", type=float, default=0.01, help="share of the engines' replies")
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--pause-ms", type=float, default=20.0, help="of a client, on average")
    parser.add_argument("--set", action="append", default=[], help="a setting as NAME=VALUE")
    arguments = parser.parse_args()
    settings: dict[str, Any] = {
        # Small, so that it is full long before the end.
        "judgement_cache_bytes": 1_000_000,
        "embedding_cache_bytes": 4_000_000,
        "judge_timeout_s": ENGINE_TIMEOUT_S,
        "embedder_timeout_s": ENGINE_TIMEOUT_S,
        "log_level": "error",
        **dict(pair.split("=", 1) for pair in arguments.set),
    }
    with stand_in(5.0, arguments.faults) as engines, service(engines, **settings) as ours:
        looks, outcomes = asyncio.run(soak(ours, arguments))
        show(looks_table(looks), outcomes_table(outcomes, engines))
    judge(looks, is_long=not arguments.quick)


def judge(looks: Sequence[Look], *, is_long: bool) -> None:
    """Stop with an error where something is left behind or memory grew."""
    rest, grown = looks[-1], growth(looks)
    if rest.in_flight or rest.waiting:
        raise SystemExit(f"left behind: {rest.in_flight:g} requests, {rest.waiting:g} questions")
    print(f"every score was right; memory grew to {grown:.3f} of the first third's")
    if is_long and grown > FLAT:
        raise SystemExit("resident memory is not flat")
    if is_long:
        print("resident memory flat")


if __name__ == "__main__":
    main()
