"""Server CPU of this checkout beside another, such as the one before a change.

usage: python benchmarks/checkouts.py OTHER [--rounds 15]

Both serve at once, their engines at the same stand-in, and take the same requests in turn; which of
them comes first changes from round to round. The loads are those of `warm.py`, `cold.py`,
`single.py` and `fairness.py`. Aim: the 95 % interval of each ratio holds 1.00 or ends below 1.05.
"""

import asyncio
import math
import random
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import aiohttp
from rich.progress import track
from rich.table import Table

from figures import Rounds, options, percentile, show
from rollouts import Burst, make_rollouts, nonces
from running import Server, service, stand_in

HERE = Path(__file__).parent.parent
AIM = "aim: the interval holds 1.00 or ends below 1.05"
CONNECTIONS = 16
DRAWS = 10_000
Load = Callable[[Server], None]


def loads(*, is_quick: bool) -> dict[str, tuple[int, Load]]:
    """Each load with its number of samples."""
    size, nonce = (8 if is_quick else 1), nonces()
    whole = Burst(make_rollouts(512 // size), recipe="medix-r1")
    guarded = Burst(make_rollouts(512 // size), recipe="medix-r1-guarded")
    half = Burst(make_rollouts(256 // size), recipe="medix-r1")
    one = Burst(make_rollouts(1), recipe="medix-r1")
    remembered = next(nonce)

    def known(burst: Burst, requests: int) -> Load:
        body = burst.body(remembered)
        return lambda server: asyncio.run(post_all(server, [body] * requests))

    def new(burst: Burst, requests: int) -> Load:
        # Both servers get the same texts only if the nonce is none of theirs, so each has its own.
        return lambda server: asyncio.run(
            post_all(server, [burst.body(next(nonce)) for _ in range(requests)])
        )

    def crowd(server: Server) -> None:
        small = [one.body(next(nonce)) for _ in range(CONNECTIONS)]
        big = [whole.body(next(nonce)) for _ in range(CONNECTIONS // size)]
        asyncio.run(post_all(server, [*big, *small], connections=2 * CONNECTIONS))

    return {
        "warm: 512 remembered samples a request": (16 * 512 // size, known(whole, 16)),
        "warm, guarded: the same by the default recipe": (16 * 512 // size, known(guarded, 16)),
        "cold: 256 new samples a request": (8 * 256 // size, new(half, 8)),
        "single: one remembered sample a request": (1600 // size, known(one, 1600 // size)),
        "single: one new sample a request": (800 // size, new(one, 800 // size)),
        "fairness: 16 x 512 new ones and 16 x 1": (
            CONNECTIONS // size * len(whole.rollouts) + CONNECTIONS,
            crowd,
        ),
    }


async def post_all(server: Server, bodies: Sequence[bytes], connections: int = CONNECTIONS) -> None:
    """Send all bodies over a few connections."""
    waiting = iter(bodies)
    limit = aiohttp.TCPConnector(limit=connections)
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(server.url, connector=limit, headers=headers) as http:

        async def post() -> None:
            for body in waiting:
                async with http.post("/reward", data=body) as reply:
                    reply.raise_for_status()
                    await reply.read()

        await asyncio.gather(*(post() for _ in range(connections)))


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the geometric mean of ratios, by a bootstrap of the rounds."""
    chance, logs = random.Random(7), [math.log(ratio) for ratio in ratios]  # noqa: S311 - the same draws every time
    means = [statistics.fmean(chance.choices(logs, k=len(logs))) for _ in range(DRAWS)]
    return math.exp(percentile(means, 0.025)), math.exp(percentile(means, 0.975))


def measure(other: Path, rounds: int, *, is_quick: bool) -> Table:
    """Run the rounds."""
    columns = ("µs/sample here", "there", "here / there", "95 % interval")
    table = Table("load", *columns, title="Server CPU, embedder and judge 0 ms", caption=AIM)
    took: dict[str, Rounds] = {}
    chosen = loads(is_quick=is_quick)
    with (
        stand_in(0) as engines,
        service(engines, checkout=HERE) as here,
        service(engines, checkout=other) as there,
    ):
        servers = {"here": here, "there": there}
        for _, load in chosen.values():
            for server in servers.values():
                load(server)  # caches filled, code paths taken once
        for number in track(range(rounds), "rounds"):
            for name, (_, load) in chosen.items():
                for side in sorted(servers, reverse=number % 2 == 1):
                    before_s = servers[side].cpu_s
                    load(servers[side])
                    took.setdefault(name, Rounds()).add(side, servers[side].cpu_s - before_s)
    for name, (samples, _) in chosen.items():
        ratios = took[name].ratios("here", "there")
        middle = math.exp(statistics.fmean(map(math.log, ratios)))
        costs = (f"{took[name].median(side) / samples * 1e6:.1f}" for side in servers)
        low, high = interval(ratios)
        table.add_row(name, *costs, f"{middle:.3f}", f"{low:.3f} to {high:.3f}")
    return table


def main() -> None:
    """Measure and print."""
    parser = options(__doc__, rounds=15)
    parser.add_argument("other", type=Path, metavar="OTHER", help="the other checkout's folder")
    arguments = parser.parse_args()
    rounds = 2 if arguments.quick else arguments.rounds
    show(measure(arguments.other.resolve(), rounds, is_quick=arguments.quick))


if __name__ == "__main__":
    main()
