"""Does a burst hold others up? `/livez` and one small new request, idle and beside big requests.

usage: python benchmarks/fairness.py [--seconds 15] [--delay-ms 10]

Two loads, from a process of their own: sixteen requests of 512 new samples at once, again and
again, and one request of 8,000. Meanwhile this process probes with one request of each kind at a time. Aims:
99 % of `/livez` within 25 ms, and the small request's 99th percentile at most doubled.
"""

import argparse
import asyncio
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.synchronize import Event

import aiohttp
from rich.table import Table

from figures import options, percentile, show
from rollouts import Burst, make_rollouts, nonces
from running import Server, service, stand_in

AIMS = "aims: p99 of livez under 25 ms, of the small request at most twice the idle one"
PAUSE_S = 0.005
"""Between probes: they look on, and are no load."""
WARM_UP_S = 0.5
START_S = 1.0
"""What a load needs to be under way."""


async def keep_loading(url: str, requests: int, samples: int, stop: Event, ready: Event) -> None:
    """Send *requests* at once, each of *samples* new ones, until told to stop."""
    burst, nonce = Burst(make_rollouts(samples), recipe="medix-r1"), nonces()
    timeout = aiohttp.ClientTimeout(total=None)
    headers = {"Content-Type": "application/json"}
    ready.set()
    async with aiohttp.ClientSession(url, timeout=timeout, headers=headers) as http:

        async def post() -> None:
            while not stop.is_set():
                async with http.post("/reward", data=burst.body(next(nonce))) as reply:
                    reply.raise_for_status()
                    await reply.read()

        posts = [asyncio.ensure_future(post()) for _ in range(requests)]
        while not stop.is_set():
            await asyncio.sleep(PAUSE_S)
            for done in (one for one in posts if one.done()):
                done.result()
        for one in posts:
            one.cancel()


def run_load(url: str, requests: int, samples: int, stop: Event, ready: Event) -> None:
    """The load's process."""
    asyncio.run(keep_loading(url, requests, samples, stop, ready))


@contextmanager
def load(server: Server, requests: int, samples: int) -> Iterator[None]:
    """Keep a load on the server while the block runs."""
    spawn = multiprocessing.get_context("spawn")
    stop, ready = spawn.Event(), spawn.Event()
    process = spawn.Process(target=run_load, args=(server.url, requests, samples, stop, ready))
    process.start()
    try:
        ready.wait()
        time.sleep(START_S)
        yield
        if not process.is_alive():
            raise SystemExit("the load failed")
    finally:
        stop.set()
        process.join()


def probe(server: Server, small: Burst, seconds: float) -> dict[str, list[float]]:
    """Seconds of each probe; the two kinds do not wait for one another."""
    nonce, asked = nonces(), {"livez": server.connect(), "small": server.connect()}
    ways: dict[str, Callable[[], object]] = {
        "livez": lambda: asked["livez"].get("/livez"),
        "small": lambda: asked["small"].post("/reward", small.body(next(nonce))),
    }
    with ThreadPoolExecutor(len(ways)) as pool:
        repeating = {name: pool.submit(repeat, way, seconds) for name, way in ways.items()}
        return {name: taken.result() for name, taken in repeating.items()}


def repeat(way: Callable[[], object], seconds: float) -> list[float]:
    """Seconds that each of many turns took."""
    took, ends = [], time.monotonic() + seconds
    while time.monotonic() < ends:
        started = time.perf_counter()
        way()
        took.append(time.perf_counter() - started)
        time.sleep(PAUSE_S)
    return took


def cells(seconds: Sequence[float]) -> tuple[str, str, str]:
    """Percentiles in milliseconds."""
    figures = (percentile(seconds, 0.5), percentile(seconds, 0.99), max(seconds))
    p50, p99, most = (f"{1e3 * value:.1f}" for value in figures)
    return p50, p99, most


def measure(arguments: argparse.Namespace) -> Table:
    """Probe the idle service, then under each load."""
    seconds = 1.0 if arguments.quick else arguments.seconds
    loads = [(4, 64)] if arguments.quick else [(16, 512), (1, 8000)]
    small = Burst(make_rollouts(1, characters=512), recipe="medix-r1")
    title = f"Probes of {seconds:g} s each, engines {arguments.delay_ms:g} ms"
    columns = ("probes", "p50 ms", "p99 ms", "most ms", "p99, times idle")
    table = Table("probe", "meanwhile", *columns, title=title, caption=AIMS)
    with stand_in(arguments.delay_ms) as engines, service(engines) as ours:
        probe(ours, small, WARM_UP_S)
        idle = probe(ours, small, seconds)
        found = {"idle": idle}
        for requests, samples in loads:
            with load(ours, requests, samples):
                found[f"{requests} x {samples} new"] = probe(ours, small, seconds)
    for name in ("livez", "small"):
        for meanwhile, took in found.items():
            ratio = percentile(took[name], 0.99) / percentile(idle[name], 0.99)
            row = (str(len(took[name])), *cells(took[name]), f"{ratio:.1f}")
            table.add_row(name, meanwhile, *row)
    return table


def main() -> None:
    """Measure and print."""
    parser = options(__doc__)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each probe")
    parser.add_argument("--delay-ms", type=float, default=10.0)
    show(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
