"""Thirty-two clients at once with overlapping samples: how often is the judge asked?

usage: python benchmarks/judge_calls.py [--rounds 5]

Counted by the stand-in, not by the service. Aim: exactly the distinct pairs of answer and
reference that nobody had asked before, whoever asks and however often; anything else is an error.
Beside it a plain FastAPI service with the same reward and a cache.
"""

import asyncio
import random
from collections.abc import Sequence
from typing import NamedTuple

import aiohttp
from rich.table import Table

from figures import Rounds, options, show
from rollouts import Burst, Rollout, make_rollouts, nonces, pairs_of
from running import Server, baseline, service, stand_in

KNOWN_SHARE = 8
"""One rollout in this many has been scored before."""
AIM = "aim: ours exactly one question a pair"
OURS, PLAIN = "ours", "plain FastAPI service"


async def post_all(url: str, bodies: Sequence[bytes]) -> None:
    """Send all bodies at once, each over a connection of its own."""
    connector = aiohttp.TCPConnector(limit=len(bodies))
    async with aiohttp.ClientSession(connector=connector) as session:

        async def post(body: bytes) -> None:
            headers = {"Content-Type": "application/json"}
            async with session.post(f"{url}/reward", data=body, headers=headers) as reply:
                reply.raise_for_status()
                results = (await reply.json())["results"]
            if any(result["status"] != "scored" for result in results):
                raise SystemExit("not all samples were scored")

        await asyncio.gather(*map(post, bodies))


def judge_counts(engines: Server) -> tuple[int, int]:
    """Questions the judge was asked so far, and the HTTP requests they came in."""
    stats = engines.get("/stats")
    routes = ("/v1/chat/completions", "/v1/completions")
    questions = sum(stats["questions"].get(route, 0) for route in routes)
    return questions, sum(stats["calls"].get(route, 0) for route in routes)


class Overlap(NamedTuple):
    """What the clients send: each its own share of the same rollouts."""

    clients: int
    samples: int
    """Of each client."""

    def shares(self, rollouts: Sequence[Rollout], seed: int) -> list[list[Rollout]]:
        """Draw the shares."""
        chance = random.Random(seed)  # noqa: S311 - the same shares for each service
        return [chance.sample(rollouts, self.samples) for _ in range(self.clients)]


class Count(NamedTuple):
    """What the judge was asked, and had to be asked."""

    questions: int
    calls: int
    distinct: int


def count_calls(
    engines: Server, asked: Server, known: Burst, shares: Sequence[Sequence[Rollout]]
) -> Count:
    """Score what is known, then all shares at once; count the questions of the latter."""
    nonce = next(nonces())
    asyncio.run(post_all(asked.url, [known.body(nonce)]))
    before = judge_counts(engines)
    asyncio.run(post_all(asked.url, [Burst(share).body(nonce) for share in shares]))
    questions, calls = judge_counts(engines)
    new = {pair for share in shares for pair in pairs_of(share)} - pairs_of(known.rollouts)
    return Count(questions - before[0], calls - before[1], len(new))


def main() -> None:
    """Run the rounds, print the table, stop with an error if a question was asked twice."""
    arguments = options(__doc__, rounds=5).parse_args()
    overlap = Overlap(8, 16) if arguments.quick else Overlap(clients=32, samples=128)
    rollouts = make_rollouts(4 * overlap.samples, characters=512)
    known = Burst(rollouts[::KNOWN_SHARE])
    counts = Rounds()
    with (
        stand_in() as engines,
        service(engines) as ours,
        baseline("plain_service", engines) as plain,
    ):
        for seed in range(1 if arguments.quick else arguments.rounds):
            for name, server in ((OURS, ours), (PLAIN, plain)):
                count = count_calls(engines, server, known, overlap.shares(rollouts, seed))
                if name == OURS and count.questions != count.distinct:
                    raise SystemExit(f"not one question a distinct new pair: {count}")
                for field, value in count._asdict().items():
                    counts.add(f"{name} {field}", value)
    show(table_of(counts, overlap))


def table_of(counts: Rounds, overlap: Overlap) -> Table:
    """What the judge was asked."""
    new = counts.median(f"{OURS} distinct")
    title = (
        f"{overlap.clients} clients, {overlap.samples} samples each, {new:.0f} distinct new pairs"
    )
    table = Table("service", "questions", "a pair", "HTTP requests", title=title, caption=AIM)
    for name in (OURS, PLAIN):
        questions, calls = counts.median(f"{name} questions"), counts.median(f"{name} calls")
        table.add_row(name, f"{questions:,.0f}", f"{questions / new:.2f}", f"{calls:,.0f}")
    sent = overlap.clients * overlap.samples
    table.add_row("one call a sample, as published", f"{sent:,}", f"{sent / new:.2f}", f"{sent:,}")
    return table


if __name__ == "__main__":
    main()
