"""One sample a request: CPU of a remembered one, and what a new one takes beyond its judge.

usage: python benchmarks/single.py [--rounds 9] [--requests 400] [--delays-ms 0,10]

Remembered: server CPU for each request over 16 open connections, beside FastAPI's own way to read
and write the same wire types. Aim: FastAPI's way costs at least 1.3 times as much.
New: an idle service, one request after the other, each beside a request straight to the stand-in
for the judge, over the same kind of connection. Aims: at most 1 ms more at the median and 3 ms
more at the 99th percentile.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aiohttp
from rich.table import Table

from baselines.medix_r1 import question, read
from figures import Rounds, options, percentile, show
from rollouts import Burst, Rollout, make_rollouts, nonces
from running import Server, baseline, service, stand_in

CONNECTIONS = 16
REQUESTS_A_ROUND = 2000
OURS = "ours"
DEFAULT = "echo: FastAPI's default route"
RAW = "echo: raw body in, ready reply out"
DIRECT = "the stand-in itself"
CPU_AIM = "aim: FastAPI's default route 1.3 times ours"
LATENCY_AIM = "aims: p50 at most 1 ms beyond the stand-in, p99 at most 3 ms"
WARM_UP = 20
LOGPROBS = {"logprobs": True, "top_logprobs": 20, "max_tokens": 1}


@dataclass(frozen=True, slots=True)
class Tried:
    """A server under test, and where it takes rewards."""

    server: Server
    path: str


async def post_many(one: Tried, body: bytes, number: int) -> None:
    """Send the same body *number* times over a few open connections."""
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(one.server.url, connector=connector, headers=headers) as http:

        async def post() -> None:
            for _ in range(number // CONNECTIONS):
                async with http.post(one.path, data=body) as reply:
                    reply.raise_for_status()
                    await reply.read()

        await asyncio.gather(*(post() for _ in range(CONNECTIONS)))


def remembered(arguments: argparse.Namespace) -> Table:
    """CPU of one request whose answers are remembered."""
    body = Burst(make_rollouts(1), recipe="medix-r1").body(next(nonces()))
    number, rounds = (160, 1) if arguments.quick else (REQUESTS_A_ROUND, arguments.rounds)
    took = Rounds()
    with stand_in(0) as engines, service(engines) as ours, baseline("echo") as echo:
        connection = ours.connect()
        for _ in range(2):
            reply = connection.post("/reward", body)
        echo.connect().put("/reply", reply)
        tried = {
            OURS: Tried(ours, "/reward"),
            DEFAULT: Tried(echo, "/default/reward"),
            RAW: Tried(echo, "/raw/reward"),
        }
        for _ in range(rounds):
            for name, one in tried.items():
                cpu_s = one.server.cpu_s
                asyncio.run(post_many(one, body, number))
                took.add(name, (one.server.cpu_s - cpu_s) / number)
    return cpu_table(took)


def cpu_table(took: Rounds) -> Table:
    """What a request costs each server."""
    title = f"One remembered sample of 2 KB a request, {CONNECTIONS} connections"
    table = Table("variant", "server CPU µs/request", "times ours", title=title, caption=CPU_AIM)
    for name in (OURS, DEFAULT, RAW):
        table.add_row(name, f"{took.median(name) * 1e6:.0f}", took.shown_ratio(name, OURS))
    return table


def new(arguments: argparse.Namespace, delay_ms: float) -> Table:
    """Milliseconds of one new sample on an idle service, with and without the embedder."""
    number = 20 if arguments.quick else arguments.requests
    (rollout,) = make_rollouts(1)
    bursts = {
        "ours, the judge alone": Burst([rollout], recipe="judge-alone"),
        "ours, judge and embedder": Burst([rollout], recipe="medix-r1"),
    }
    with stand_in(delay_ms) as engines, service(engines) as ours:
        latencies = alternate(rollout, bursts, engines, ours, number)
    return latency_table(latencies, f"One new sample a request, idle, engines {delay_ms:g} ms")


def alternate(
    rollout: Rollout, bursts: Mapping[str, Burst], engines: Server, ours: Server, number: int
) -> dict[str, list[float]]:
    """Seconds of each request, straight to the stand-in and through the service in turn."""
    nonce = nonces()
    straight = json.dumps(question(read(rollout.response, rollout.reference)) | LOGPROBS).encode()
    to_engines, to_ours = engines.connect(), ours.connect()
    latencies: dict[str, list[float]] = {DIRECT: [], **{name: [] for name in bursts}}
    for n in range(-WARM_UP, number):
        bodies = {name: burst.body(next(nonce)) for name, burst in bursts.items()}
        started = time.perf_counter()
        to_engines.post("/v1/chat/completions", straight)
        took = {DIRECT: time.perf_counter() - started}
        for name, body in bodies.items():
            started = time.perf_counter()
            to_ours.post("/reward", body)
            took[name] = time.perf_counter() - started
        for name, seconds in took.items() if n >= 0 else ():
            latencies[name].append(seconds)
    return latencies


def latency_table(latencies: Mapping[str, Sequence[float]], title: str) -> Table:
    """Percentiles, and what is on top of those of the stand-in."""
    columns = ("p50 ms", "p99 ms", "p50 beyond the stand-in", "p99 beyond the stand-in")
    table = Table("request to", *columns, title=title, caption=LATENCY_AIM)
    base = (statistics.median(latencies[DIRECT]), percentile(latencies[DIRECT], 0.99))
    for name, seconds in latencies.items():
        both = (statistics.median(seconds), percentile(seconds, 0.99))
        more = (f"{1e3 * (value - own):.2f}" for value, own in zip(both, base, strict=True))
        table.add_row(name, *(f"{1e3 * value:.2f}" for value in both), *more)
    return table


def main() -> None:
    """Measure and print."""
    parser = options(__doc__, rounds=9)
    parser.add_argument("--requests", type=int, default=400, help="new samples for each delay")
    parser.add_argument("--delays-ms", default="0,10", help="of the stand-in, by commas")
    arguments = parser.parse_args()
    delays = [0.0] if arguments.quick else [float(ms) for ms in arguments.delays_ms.split(",")]
    show(remembered(arguments), *(new(arguments, delay_ms) for delay_ms in delays))


if __name__ == "__main__":
    main()
