"""Warm batches through HTTP: what the service itself costs, the models' answers all remembered.

usage: python benchmarks/warm.py [--rounds 9] [--sizes 2048,8192] [--samples 512]

CPU time of the server's process for each sample, ours beside a plain FastAPI service that does the
same, and beside endpoints that only read and write the same wire types; in turn in each round. The
default recipe is a variant of its own: the baselines have no guards.
Aims: a plain service costs at least 4 times as much, and ours at most 3 times the raw echo.
"""

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from rich.table import Table

from figures import Rounds, options, show
from rollouts import Burst, make_rollouts, nonces
from running import Connection, Server, baseline, service, stand_in

OURS = "ours"
GUARDED = "ours: medix-r1-guarded"
PLAIN = "plain FastAPI service"
RAW = "echo: raw body in, ready reply out"
DEFAULT = "echo: FastAPI's default route"
AIMS = "aims: the plain service 4 times ours, ours at most 3 times the raw echo"
ROUND_S = 0.5
"""CPU time of a round's requests, about: shorter ones would measure the machine's moods."""


@dataclass(frozen=True, slots=True)
class Tried:
    """A server under test, and where it takes rewards."""

    server: Server
    connection: Connection
    path: str
    body: bytes

    def post(self) -> bytes:
        """Send one request."""
        return self.connection.post(self.path, self.body)


def check_same(ours: bytes, plain: bytes) -> None:
    """Stop unless both gave the same rewards from the same signals."""
    for one, other in zip(*(json.loads(reply)["results"] for reply in (ours, plain)), strict=True):
        if not math.isclose(one["reward"], other["reward"]):
            raise SystemExit("ours and the plain service differ in a reward")
        values = [{n: part["value"] for n, part in r["components"].items()} for r in (one, other)]
        if values[0] != values[1]:
            raise SystemExit("ours and the plain service differ in a signal")


def fill(tried: Mapping[str, Tried]) -> None:
    """Let the services remember all answers, and the echoes what they shall say."""
    for name in (OURS, GUARDED, PLAIN):
        tried[name].post()
    warm = tried[OURS].post()
    check_same(warm, tried[PLAIN].post())
    tried[RAW].connection.put("/reply", warm)
    for name in (RAW, DEFAULT):
        if json.loads(tried[name].post()) != json.loads(warm):
            raise SystemExit(f"{name}: another reply than ours")


def measure(tried: Mapping[str, Tried], rounds: int, round_s: float) -> dict[str, Rounds]:
    """CPU and wall seconds of one request, by variant."""
    took = {"cpu": Rounds(), "wall": Rounds()}
    repeats = {name: _repeats(one, round_s) for name, one in tried.items()}
    for _ in range(rounds):
        for name, one in tried.items():
            started, cpu_s = time.perf_counter(), one.server.cpu_s
            for _ in range(repeats[name]):
                one.post()
            took["cpu"].add(name, (one.server.cpu_s - cpu_s) / repeats[name])
            took["wall"].add(name, (time.perf_counter() - started) / repeats[name])
    return took


def _repeats(one: Tried, round_s: float) -> int:
    started = time.perf_counter()
    one.post()
    return max(2, math.ceil(round_s / (time.perf_counter() - started)))


def table_of(took: Mapping[str, Rounds], title: str, samples: int) -> Table:
    """What each variant costs a sample."""
    cpu, wall = took["cpu"], took["wall"]
    columns = ("server CPU µs/sample", "wall µs/sample", "CPU, times ours", "CPU, times raw echo")
    table = Table("variant", *columns, title=title, caption=AIMS)
    for name in (OURS, GUARDED, PLAIN, RAW, DEFAULT):
        times = (cpu.median(name) / samples * 1e6, wall.median(name) / samples * 1e6)
        ratios = (cpu.shown_ratio(name, OURS), cpu.shown_ratio(name, RAW))
        table.add_row(name, *(f"{us:.1f}" for us in times), *ratios)
    return table


def tables(arguments: argparse.Namespace) -> Sequence[Table]:
    """Measure each size with servers of its own."""
    made = []
    samples = 64 if arguments.quick else arguments.samples
    rounds, round_s = (1, 0.05) if arguments.quick else (arguments.rounds, ROUND_S)
    for size in map(int, arguments.sizes.split(",")):
        rollouts, nonce = make_rollouts(samples, characters=size), next(nonces())
        body = Burst(rollouts, recipe="medix-r1").body(nonce)
        guarded = Burst(rollouts, recipe="medix-r1-guarded").body(nonce)
        with ExitStack() as stack:
            engines = stack.enter_context(stand_in(0))
            ours = stack.enter_context(service(engines))
            plain = stack.enter_context(baseline("plain_service", engines))
            echo = stack.enter_context(baseline("echo"))
            tried = {
                OURS: Tried(ours, ours.connect(), "/reward", body),
                GUARDED: Tried(ours, ours.connect(), "/reward", guarded),
                PLAIN: Tried(plain, plain.connect(), "/reward", body),
                RAW: Tried(echo, echo.connect(), "/raw/reward", body),
                DEFAULT: Tried(echo, echo.connect(), "/default/reward", body),
            }
            fill(tried)
            took = measure(tried, rounds, round_s)
        title = f"{samples} samples of {size} characters a request, all answers remembered"
        made.append(table_of(took, title, samples))
    return made


def main() -> None:
    """Measure and print."""
    parser = options(__doc__, rounds=9)
    parser.add_argument("--sizes", default="2048", help="characters of a response, by commas")
    parser.add_argument("--samples", type=int, default=512)
    show(*tables(parser.parse_args()))


if __name__ == "__main__":
    main()
