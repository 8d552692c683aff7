"""Two service processes against one, the same load in total: does a sample cost the same?

usage: python benchmarks/two_processes.py [--rounds 5]

CPU time of all service processes for each sample, new samples and remembered ones; requests of 256
samples, eight at once. Aim: the two cost within 10 % of what the one costs.
"""

import asyncio
from collections.abc import Sequence

import aiohttp
from rich.table import Table

from figures import Rounds, options, show
from rollouts import Burst, make_rollouts, nonces
from running import Server, service, stand_in

REQUESTS = 8
SAMPLES = 256
WARM_REPEATS = 4
AIM = "aim: two processes within 10 % of one"
ONE, TWO = "one process", "two processes"


async def post_shared(servers: Sequence[Server], bodies: Sequence[bytes]) -> None:
    """Send all bodies at once, to the servers in turn."""
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(headers=headers) as http:

        async def post(number: int, body: bytes) -> None:
            url = f"{servers[number % len(servers)].url}/reward"
            async with http.post(url, data=body) as reply:
                reply.raise_for_status()
                await reply.read()

        await asyncio.gather(*(post(*numbered) for numbered in enumerate(bodies)))


def cpu_of(servers: Sequence[Server], bodies: Sequence[bytes], repeats: int = 1) -> float:
    """CPU seconds that all servers spend on the bodies, sent *repeats* times."""
    before = sum(server.cpu_s for server in servers)
    for _ in range(repeats):
        asyncio.run(post_shared(servers, bodies))
    return (sum(server.cpu_s for server in servers) - before) / repeats


def main() -> None:
    """Measure and print."""
    arguments = options(__doc__, rounds=5).parse_args()
    samples, rounds = (64, 1) if arguments.quick else (SAMPLES, arguments.rounds)
    burst, nonce = Burst(make_rollouts(samples), recipe="medix-r1"), nonces()
    took = Rounds()
    with stand_in() as engines, service(engines) as a, service(engines) as b, service(engines) as c:
        sets = {ONE: [a], TWO: [b, c]}
        for number in range(-1, rounds):
            for name, servers in sets.items():
                bodies = [burst.body(next(nonce)) for _ in range(REQUESTS)]
                cold = cpu_of(servers, bodies)
                warm = cpu_of(servers, bodies, WARM_REPEATS)
                if number >= 0:  # the first is for warming up
                    took.add(f"{name} new", cold / (REQUESTS * samples))
                    took.add(f"{name} remembered", warm / (REQUESTS * samples))
    show(table_of(took, samples))


def table_of(took: Rounds, samples: int) -> Table:
    """What a sample costs one process and two."""
    title = f"{REQUESTS} requests of {samples} samples at once"
    table = Table(
        "samples", "processes", "service CPU µs/sample", "times one", title=title, caption=AIM
    )
    for kind in ("new", "remembered"):
        for name in (ONE, TWO):
            us = took.median(f"{name} {kind}") * 1e6
            table.add_row(
                kind, name, f"{us:.1f}", took.shown_ratio(f"{name} {kind}", f"{ONE} {kind}")
            )
    return table


if __name__ == "__main__":
    main()
