"""What a service's memory grows to: many distinct reports, and bodies made to become large.

usage: python benchmarks/memory.py [--samples 50000]

Each load meets a service of its own with default limits, the guarded recipe and an embedder of 1,024
numbers. The reports are 1,200 characters, one in three not all ASCII, no two alike. Of each kind of
body, as many as the service lets in at once are sent at the same time, each of the largest size.
Prints the peak of resident memory above that of the service at rest; the aim is 800 MB for each.
Then the CPU time for which weighing a MiB of a body holds up other requests, were it done at once.
"""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from rich.table import Table

from figures import options, show
from medreward.http.bodies import Weight
from medreward.settings import Settings
from running import Server, service, stand_in

AIM_MB, AIM_MS = 800, 5
PIECE = 64 * 1024
ROWS = 256
CALLERS = 4
MIB = 2**20
WORDS = [
    "left",
    "right",
    "lower",
    "upper",
    "lobe",
    "pleural",
    "effusion",
    "consolidation",
    "nodule",
    "opacity",
    "cardiac",
]


def main() -> None:
    """Measure each load; a table."""
    parser = options(__doc__ or "")
    parser.add_argument("--samples", type=int, default=50_000)
    chosen = parser.parse_args()
    samples, size = (2 * ROWS, MIB) if chosen.quick else (chosen.samples, 0)
    table = Table("load", "replies", "at rest, MB", "peak above, MB", "aim, MB")
    with stand_in(delay_ms=1.0) as engines:
        for name, load in {"reports": reports(samples), **bodies(size)}.items():
            with service(engines, recipe="medix-r1-guarded", log_level="error") as server:
                rest_mb = server.resident_mb
                counts = load(server)
                said = ", ".join(f"{number} × {status}" for status, number in counts.items())
                peak = f"{peak_mb(server) - rest_mb:.0f}"
                table.add_row(name, said, f"{rest_mb:.0f}", peak, str(AIM_MB))
    show(table, weighing())


def weighing() -> Table:
    """What weighing bodies takes, in pieces as they arrive."""
    table = Table("a MiB of", "weighed, ms", "aim, ms")
    for part in ("a word, and another. ", "[],", '"a,",', '{"a":1},', "µ – 😀", r"\u00e9", '"'):
        body = (part.encode() * MIB)[:MIB]
        weight, started = Weight(), time.thread_time()
        for at in range(0, MIB, PIECE):
            weight.add(body[at : at + PIECE])
        table.add_row(part, f"{1000 * (time.thread_time() - started):.1f}", str(AIM_MS))
    return table


Load = Callable[[Server], Counter[int]]


def reports(samples: int) -> Load:
    """Distinct reports by a few callers, a request after another."""

    def send(server: Server) -> Counter[int]:
        counts: Counter[int] = Counter()
        shares = [range(at, samples, ROWS * CALLERS) for at in range(0, ROWS * CALLERS, ROWS)]

        def call(share: range) -> None:
            connection = HTTPConnection(urlsplit(server.url).netloc, timeout=600)
            for start in share:
                counts[post(connection, report_body(start))] += 1

        at_once(*(lambda share=share: call(share) for share in shares))
        return counts

    return send


def report_body(start: int) -> bytes:
    """A request of distinct reports, groups of eight."""
    chance = random.Random(start)  # noqa: S311 - the same load every time
    rows = []
    for number in range(start, start + ROWS):
        if number % 8 == 0:
            reference, question = report(chance), report(chance, 100)
        response = f"<answer>{report(chance)}</answer>"
        rows.append({"response": response, "reference": reference, "question": question})
    return json.dumps({"samples": rows}, ensure_ascii=False).encode()


def report(chance: random.Random, characters: int = 1200) -> str:
    """Words that make up no report, with an unusual sign in one of three."""
    odd = chance.choice(["", "", " – 5 µg"])
    said = " ".join(f"{chance.choice(WORDS)}{chance.randrange(999)}" for _ in range(characters))
    return said[: characters - len(odd)] + odd


def bodies(size: int) -> dict[str, Load]:
    """Bodies of the largest size that the service takes, or of *size* bytes."""
    sample = b'{"response":"<answer>a</answer>","reference":"b"'
    lists = b"[],"
    text = '{"response":"<answer>%s</answer>","reference":"b"},'
    kinds: dict[str, tuple[bytes, bytes, bytes]] = {
        "samples": (b'{"samples":[', b'{"response":"a","reference":"b"},', sample + b"}]}"),
        "extra of lists": (b'{"samples":[' + sample + b',"extra":{"a":[', lists, b"[]]}}]}"),
        "extra with a lone surrogate": (
            b'{"samples":[' + sample + rb',"extra":{"b":"\ud83d","a":[',
            lists,
            b"[]]}}]}",
        ),
        "extra of objects": (b'{"samples":[' + sample + b',"extra":{"a":[', b'{"a":1},', b"1]}}]}"),
        "brackets": (b"[", lists, b"[]]"),
        "long texts": (b'{"samples":[', (text % ("a " * 4000)).encode(), sample + b"}]}"),
        "long texts, an emoji each": (
            b'{"samples":[',
            (text % ("a " * 4000 + "😀")).encode(),
            sample + b"}]}",
        ),
        "openrlhf, words": (b'{"query":"', b"a ", b'","prompts":"b","labels":"c"}'),
    }
    return {name: at_their_largest(name, *parts, size=size) for name, parts in kinds.items()}


def at_their_largest(name: str, start: bytes, part: bytes, end: bytes, *, size: int) -> Load:
    """As many equal bodies at once as fit into what the service holds."""
    path = "/compat/openrlhf" if name.startswith("openrlhf") else "/reward"

    def send(server: Server) -> Counter[int]:
        largest, held = limits()
        largest = size or largest
        body = start + part * ((largest - len(start) - len(end)) // len(part)) + end
        counts: Counter[int] = Counter()

        def call() -> None:
            connection = HTTPConnection(urlsplit(server.url).netloc, timeout=600)
            counts[post(connection, body, path)] += 1

        at_once(*[call] * (held // len(body)))
        return counts

    return send


def limits() -> tuple[int, int]:
    """The largest body, and the bytes in flight, by default."""
    settings = Settings(profile="remote", judge_url="http://x", embedder_url="http://x")
    return settings.max_body_bytes, settings.max_bytes_in_flight


def post(connection: HTTPConnection, body: bytes, path: str = "/reward") -> int:
    """Send a body; the status, 0 if the service closed the connection first."""
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        with connection.getresponse() as reply:
            reply.read()
            return reply.status
    except ConnectionError:
        connection.close()
        return 0


def at_once(*calls: Callable[[], None]) -> None:
    """Run calls in threads, and wait for all."""
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def peak_mb(server: Server) -> float:
    """The peak of a server's resident memory, in megabytes."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1000


if __name__ == "__main__":
    main()
