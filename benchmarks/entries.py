"""The memory tier at a thousand, a hundred thousand and two million entries.

usage: python benchmarks/entries.py [--rounds 9] [--entries 1000,100000,2000000]

Microseconds to find what is remembered of a sample (three keys: a judgement and two vectors), for
512 samples at a time, in turn with a plain dict and with cachetools' caches of the same entries;
and the memory of an entry, by how the process grows. In one process, without a service.
"""

import gc
import hashlib
import importlib
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from cachetools import LRUCache, TTLCache
from rich.table import Table

from figures import Rounds, options, show

SAMPLES = 512
KEYS_A_SAMPLE = 3
BATCHES = 40
FILLED_AT_ONCE = 4096
VALUE = 20
"""Bytes of what is remembered of one question, about."""
NOTABLE_BYTES = 4 * 2**20
"""A process that grows by less than this says nothing about one entry."""
OURS = "MemoryTier"
DICT = "dict, no bound"
LRU = "cachetools LRUCache"
TTL = "cachetools TTLCache"

Find = Callable[[Sequence[bytes]], Mapping[bytes, bytes]]


class Tier(Protocol):
    """What is measured."""

    def get_many(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """Give what is remembered."""
        ...

    def put_many(self, values: Mapping[bytes, bytes]) -> None:
        """Remember."""
        ...


def memory_tier() -> Tier:
    """Our tier, with room for every entry."""
    module = importlib.import_module("medreward.cache.memory")
    tier: Tier = module.MemoryTier(max_bytes=8 * 2**30)
    return tier


def key(number: int) -> bytes:
    """The key of an entry."""
    return hashlib.blake2b(number.to_bytes(8), digest_size=16).digest()


def parts(entries: int) -> Iterator[dict[bytes, bytes]]:
    """All entries, some thousands at a time, each key and value an object of its own."""
    for start in range(0, entries, FILLED_AT_ONCE):
        numbers = range(start, min(entries, start + FILLED_AT_ONCE))
        yield {key(n): n.to_bytes(VALUE) for n in numbers}


def resident_bytes() -> int:
    """Resident memory of this process (Linux)."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def filled(entries: int) -> tuple[dict[str, Find], float]:
    """Ways to find answers among so many, and by how many bytes an entry ours has grown."""
    before = resident_bytes()
    tier = memory_tier()
    for part in parts(entries):
        tier.put_many(part)
    grown = resident_bytes() - before
    plain: dict[bytes, bytes] = {}
    lru: LRUCache[bytes, bytes] = LRUCache(entries)
    ttl: TTLCache[bytes, bytes] = TTLCache(entries, 3600)
    for part in parts(entries):
        for other in (plain, lru, ttl):
            other.update(part)
    found = {OURS: tier.get_many, DICT: finder(plain), LRU: finder(lru), TTL: finder(ttl)}
    return found, grown / entries if grown >= NOTABLE_BYTES else 0.0


def finder(cache: Mapping[bytes, bytes]) -> Find:
    """The obvious way to find many."""
    return lambda keys: {key: cache[key] for key in keys if key in cache}


def microseconds_a_sample(find: Find, batches: Sequence[Sequence[bytes]]) -> float:
    """Time to find all, for one sample."""
    started = time.perf_counter()
    for batch in batches:
        if len(find(batch)) != len(batch):
            raise SystemExit("an entry was not found")
    seconds = time.perf_counter() - started
    return seconds / sum(map(len, batches)) * KEYS_A_SAMPLE * 1e6


def batches_of(entries: int) -> list[list[bytes]]:
    """Keys that are there, drawn at random, none twice in a batch unless there are too few."""
    chance = random.Random(1)  # noqa: S311 - the same every time
    wanted = min(entries, SAMPLES * KEYS_A_SAMPLE)
    return [[key(n) for n in chance.sample(range(entries), wanted)] for _ in range(BATCHES)]


def main() -> None:
    """Fill, measure in turn, and print."""
    parser = options(__doc__, rounds=9)
    parser.add_argument("--entries", default="1000,100000,2000000", help="by commas")
    arguments = parser.parse_args()
    sizes = [1000, 20_000] if arguments.quick else [int(n) for n in arguments.entries.split(",")]
    made = {size: filled(size) for size in sizes}
    batches = {size: batches_of(size) for size in sizes}
    took = Rounds()
    for _ in range(arguments.rounds):
        for size, (ways, _) in made.items():
            for name, find in ways.items():
                us = microseconds_a_sample(find, batches[size])
                took.add(f"{name} {size}", us)
    show(table_of(took, {size: grown for size, (_, grown) in made.items()}))


def table_of(took: Rounds, grown: Mapping[int, float]) -> Table:
    """What finding costs, by number of entries."""
    columns = ("entries", "µs/sample", "times the dict", "times the fewest entries", "bytes/entry")
    table = Table("cache", *columns, title="Remembered answers found in memory")
    fewest = min(grown)
    for name in (OURS, DICT, LRU, TTL):
        for size, weight in grown.items():
            own = f"{name} {size}"
            ratios = (
                took.shown_ratio(own, f"{DICT} {size}"),
                took.shown_ratio(own, f"{name} {fewest}"),
            )
            shown = f"{weight:.0f}" if name == OURS and weight else "–"
            table.add_row(name, f"{size:,}", f"{took.median(own):.2f}", *ratios, shown)
    return table


if __name__ == "__main__":
    main()
