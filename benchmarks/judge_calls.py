"""Thirty-two clients at once with overlapping samples: how often is the judge asked?

usage: python benchmarks/judge_calls.py [--rounds 5]

Counted by the stand-in, not by the service. Aim: exactly the distinct pairs of answer and
reference that nobody had asked before, whoever asks and however often; anything else is an error.
Beside it a plain FastAPI service with the same reward and a cache.
"""

import asyncio
import random
from collections.abc import Sequence

import aiohttp
from rich.table import Table

from figures import Rounds, options, show
from rollouts import Burst, Rollout, make_rollouts, nonces, pairs_of
from running import Server, baseline, service, stand_in

CLIENTS = 32
SAMPLES_A_CLIENT = 128
KNOWN_SHARE = 8
"""One rollout in this many has been scored before."""
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
    routes = ("/v1/chat/completions", "/v1/completions", "/generative_scoring")
    questions = sum(stats["questions"].get(route, 0) for route in routes)
    return questions, sum(stats["calls"].get(route, 0) for route in routes)


def one_round(
    rollouts: Sequence[Rollout], chance: random.Random, nonce: str, engines: Server, asked: Server
) -> tuple[int, int, int]:
    """Distinct pairs nobody had asked before, questions asked, and HTTP requests, of one service."""
    known = rollouts[::KNOWN_SHARE]
    shares = [chance.sample(list(rollouts), SAMPLES_A_CLIENT) for _ in range(CLIENTS)]
    asyncio.run(post_all(asked.url, [Burst(known).body(nonce)]))
    before = judge_counts(engines)
    asyncio.run(post_all(asked.url, [Burst(share).body(nonce) for share in shares]))
    after = judge_counts(engines)
    new = {pair for share in shares for pair in pairs_of(share)} - pairs_of(known)
    return len(new), after[0] - before[0], after[1] - before[1]


def main() -> None:
    """Run the rounds, print the table, stop with an error if a question was asked twice."""
    arguments = options(__doc__, rounds=5).parse_args()
    rounds = 1 if arguments.quick else arguments.rounds
    rollouts = make_rollouts(512, characters=512)
    counts, nonce = Rounds(), nonces()
    with (
        stand_in() as engines,
        service(engines) as ours,
        baseline("plain_service", engines) as plain,
    ):
        for _ in range(rounds):
            for name, server in ((OURS, ours), (PLAIN, plain)):
                chance = random.Random(1)  # noqa: S311 - the same shares for both
                new, questions, calls = one_round(rollouts, chance, next(nonce), engines, server)
                counts.add(f"{name} questions", questions)
                counts.add(f"{name} calls", calls)
                if name == OURS and questions != new:
                    raise SystemExit(f"{questions} questions for {new} distinct new pairs")
    show(table_of(counts, new))


def table_of(counts: Rounds, new: int) -> Table:
    """What the judge was asked."""
    title = f"{CLIENTS} clients, {SAMPLES_A_CLIENT} samples each, {new} distinct new pairs"
    table = Table("service", "questions", "a pair", "HTTP requests", title=title)
    for name in (OURS, PLAIN):
        questions, calls = counts.median(f"{name} questions"), counts.median(f"{name} calls")
        table.add_row(name, f"{questions:,.0f}", f"{questions / new:.2f}", f"{calls:,.0f}")
    asked = CLIENTS * SAMPLES_A_CLIENT
    table.add_row(
        "one call a sample, as published", f"{asked:,}", f"{asked / new:.2f}", f"{asked:,}"
    )
    return table


if __name__ == "__main__":
    main()
