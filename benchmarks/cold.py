"""A cold burst: 256 samples that nobody has scored before, by a judge that takes 10 ms.

usage: python benchmarks/cold.py [--rounds 7] [--delay-ms 10]

The published reward, one call a sample in three ways, beside one `POST /reward` to a running
service; in turn, with the same samples, new in each round. The rewards have to agree.
Aims: at least 60 times as fast as the published way, twice as fast as the better aiohttp loop.
"""

import asyncio
import json
import math
import time
from collections.abc import Callable, Sequence

from rich.table import Table

from baselines import medix_r1, per_sample
from baselines.medix_r1 import JUDGE_ALONE, PUBLISHED
from figures import Rounds, options, show
from rollouts import Burst, Rollout, make_rollouts, nonces, pairs_of
from running import Connection, service, stand_in

PUBLISHED_WAY = "MediX-R1: requests.post, one by one"
ONE_SESSION = "aiohttp, one session, 64 at a time"
MANY_SESSIONS = "aiohttp, a session each, 64 at a time"
OURS = "ours: one POST /reward"
OURS_WITH_EMBEDDER = "ours, the embedder asked as well"

AIMS = "aims: the published way 60 times ours, the better aiohttp loop twice"

Way = Callable[[str], list[float]]


def ways(
    samples: Sequence[Rollout],
    judge_url: str,
    connection: Connection,
    connection_with_embedder: Connection,
) -> dict[str, Way]:
    """Each way to score the samples with a nonce."""
    alone, whole = Burst(samples, recipe="judge-alone"), Burst(samples, recipe="medix-r1")

    def pairs(nonce: str) -> list[tuple[str, str]]:
        return [(rollout.response, rollout.reference) for rollout in alone.renewed(nonce)]

    def one_session(nonce: str) -> list[float]:
        work = per_sample.rewards_over_one_session(judge_url, pairs(nonce), JUDGE_ALONE)
        return asyncio.run(work)

    def many_sessions(nonce: str) -> list[float]:
        work = per_sample.rewards_over_sessions(judge_url, pairs(nonce), JUDGE_ALONE)
        return asyncio.run(work)

    return {
        PUBLISHED_WAY: lambda nonce: medix_r1.rewards(judge_url, pairs(nonce), JUDGE_ALONE),
        ONE_SESSION: one_session,
        MANY_SESSIONS: many_sessions,
        OURS: lambda nonce: posted(connection, alone.body(nonce)),
        OURS_WITH_EMBEDDER: lambda nonce: posted(connection_with_embedder, whole.body(nonce)),
    }


def posted(connection: Connection, body: bytes) -> list[float]:
    """The rewards of one request."""
    results = json.loads(connection.post("/reward", body))["results"]
    return [result["reward"] for result in results]


def check(rewards: dict[str, list[float]], samples: Sequence[Rollout]) -> None:
    """Stop unless all ways gave the published rewards."""
    for way, got in rewards.items():
        weights = PUBLISHED if way == OURS_WITH_EMBEDDER else JUDGE_ALONE
        right = [medix_r1.expected(r.response, r.reference, weights) for r in samples]
        if not all(map(math.isclose, got, right)):
            raise SystemExit(f"{way}: other rewards than the published rules give")


def main() -> None:
    """Run the rounds and print the table."""
    parser = options(__doc__, rounds=7)
    parser.add_argument("--delay-ms", type=float, default=10.0)
    parser.add_argument("--samples", type=int, default=256)
    arguments = parser.parse_args()
    number = 32 if arguments.quick else arguments.samples
    samples, nonce = make_rollouts(number), nonces()
    took = Rounds()
    with (
        stand_in(arguments.delay_ms) as judge,
        service(judge) as ours,
        service(judge) as ours_with_embedder,
    ):
        connections = (ours.connect(), ours_with_embedder.connect())
        tried = ways(samples, f"{judge.url}/v1", *connections)
        for name in (OURS, OURS_WITH_EMBEDDER):
            tried[name](next(nonce))  # connections opened, code paths taken once
        for _ in range(1 if arguments.quick else arguments.rounds):
            fresh = next(nonce)
            rewards = {}
            for name, way in tried.items():
                started = time.perf_counter()
                rewards[name] = way(fresh)
                took.add(name, time.perf_counter() - started)
            check(rewards, [rollout.renewed(fresh) for rollout in samples])
    show(table_of(took, number, len(pairs_of(samples)), arguments.delay_ms))


def table_of(took: Rounds, number: int, distinct: int, delay_ms: float) -> Table:
    """What each way took."""
    title = f"{number} samples of 2 KB, {distinct} distinct pairs, judge {delay_ms:g} ms"
    table = Table("way", "ms", "samples/s", "times ours", title=title, caption=AIMS)
    for name in (PUBLISHED_WAY, ONE_SESSION, MANY_SESSIONS, OURS, OURS_WITH_EMBEDDER):
        seconds = took.median(name)
        cells = (f"{seconds * 1e3:,.1f}", f"{number / seconds:,.0f}")
        table.add_row(name, *cells, took.shown_ratio(name, OURS))
    return table


if __name__ == "__main__":
    main()
