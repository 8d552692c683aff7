"""What a batch costs the trainer's own process: from samples to bytes, and from bytes to rewards.

usage: python benchmarks/client_cpu.py [--rounds 9] [--samples 512]

CPU time of this process, all its threads, for each sample of a request: the client beside httpx
with `json=` and `.json()`, and httpx given orjson's bytes. A server of its own gives a reply that
the service made for these samples, whatever it is asked. In turn within each round.
Aim: at most a quarter of httpx with `json=`.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import orjson
from rich.table import Table

from figures import Rounds, options, show
from medreward_client import RewardClient, Sample
from rollouts import Burst, Rollout, make_rollouts, nonces
from running import baseline, service, stand_in

OURS = "ours: client.reward(samples), .rewards"
OURS_WHOLE = "ours, every component read as well"
JSON = "httpx, json= and .json(), the rewards"
JSON_WHOLE = "httpx, json= and .json(), every component"
ORJSON = "httpx, orjson both ways, the rewards"
AIM = "aim: ours at most a quarter (0.25) of httpx with json="
ROUND_S = 0.5
"""CPU time of a round's requests, about: shorter ones would measure the machine's moods."""

Way = Callable[[], Sequence[float]]
"""Scores the samples once; gives their rewards, or with them the values of all components."""


@contextmanager
def ways(url: str, rollouts: Sequence[Rollout]) -> Iterator[dict[str, Way]]:
    """Each way to send the samples and to read what comes back; what is sent is at hand."""
    records = [Sample(**rollout.sample()) for rollout in rollouts]
    body = {"samples": [rollout.sample() for rollout in rollouts]}
    headers = {"Content-Type": "application/json"}
    with RewardClient(url) as client, httpx.Client(base_url=url, timeout=600.0) as http:

        def ours() -> Sequence[float]:
            return [reward for reward in client.reward(records).rewards if reward is not None]

        def ours_whole() -> Sequence[float]:
            reply = client.reward(records)
            parts = [part.value for one in reply.results for part in one.components.values()]
            return [*parts, *(reward for reward in reply.rewards if reward is not None)]

        def plain() -> Sequence[float]:
            return _rewards(http.post("/reward", json=body).json())

        def plain_whole() -> Sequence[float]:
            reply = http.post("/reward", json=body).json()
            parts = [p["value"] for one in reply["results"] for p in one["components"].values()]
            return [*parts, *_rewards(reply)]

        def by_orjson() -> Sequence[float]:
            reply = http.post("/reward", content=orjson.dumps(body), headers=headers)
            return _rewards(orjson.loads(reply.content))

        yield {
            OURS: ours,
            OURS_WHOLE: ours_whole,
            JSON: plain,
            JSON_WHOLE: plain_whole,
            ORJSON: by_orjson,
        }


def _rewards(reply: Any) -> list[float]:
    return [result["reward"] for result in reply["results"]]


def reply_to(rollouts: Sequence[Rollout]) -> bytes:
    """Let the service reply once, its answers remembered."""
    body = Burst(rollouts).body("")
    with stand_in(0) as engines, service(engines) as server:
        connection = server.connect()
        connection.post("/reward", body)
        return connection.post("/reward", body)


def check_same(tried: dict[str, Way]) -> None:
    """Stop unless all ways read the same numbers."""
    for names in ((OURS, JSON, ORJSON), (OURS_WHOLE, JSON_WHOLE)):
        read = [tried[name]() for name in names]
        if any(other != read[0] for other in read[1:]):
            raise SystemExit(f"{names}: not all read the same")


def measure(tried: dict[str, Way], rounds: int, round_s: float) -> Rounds:
    """CPU seconds of one request, by way."""
    took = Rounds()
    repeats = {name: _repeats(way, round_s) for name, way in tried.items()}
    for _ in range(rounds):
        for name, way in tried.items():
            started = time.process_time()
            for _ in range(repeats[name]):
                way()
            took.add(name, (time.process_time() - started) / repeats[name])
    return took


def _repeats(way: Way, round_s: float) -> int:
    started = time.process_time()
    way()
    return max(2, math.ceil(round_s / max(time.process_time() - started, 1e-6)))


def table_of(took: Rounds, samples: int) -> Table:
    """What each way costs a sample."""
    title = f"{samples} samples of 2 KB a request"
    columns = ("client CPU µs/sample", "times httpx with json=", "times ours")
    table = Table("way", *columns, title=title, caption=AIM)
    for name in (OURS, OURS_WHOLE, JSON, JSON_WHOLE, ORJSON):
        base = JSON_WHOLE if name in (OURS_WHOLE, JSON_WHOLE) else JSON
        us = took.median(name) / samples * 1e6
        table.add_row(name, f"{us:.2f}", took.shown_ratio(name, base), took.shown_ratio(name, OURS))
    return table


def main() -> None:
    """Measure and print."""
    parser = options(__doc__, rounds=9)
    parser.add_argument("--samples", type=int, default=512)
    arguments = parser.parse_args()
    samples = 64 if arguments.quick else arguments.samples
    rounds, round_s = (1, 0.02) if arguments.quick else (arguments.rounds, ROUND_S)
    nonce = next(nonces())
    rollouts = [rollout.renewed(nonce) for rollout in make_rollouts(samples)]
    reply = reply_to(rollouts)
    with baseline("canned") as canned:
        canned.connect().put("/reply", reply)
        with ways(canned.url, rollouts) as tried:
            check_same(tried)
            took = measure(tried, rounds, round_s)
    show(table_of(took, samples))


if __name__ == "__main__":
    main()
