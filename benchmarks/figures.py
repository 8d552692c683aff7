"""Figures of interleaved rounds: medians, and ratios as the medians of the rounds' own ratios."""

import argparse
import importlib.metadata
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

WIDTH = 110
PACKAGES = ("medreward", "fastapi", "pydantic", "uvicorn", "httpx")


class Rounds:
    """What each variant took, round by round."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}

    def add(self, variant: str, value: float) -> None:
        """Note what a variant took in the round at hand."""
        self._values.setdefault(variant, []).append(value)

    def median(self, variant: str) -> float:
        """The median of the rounds."""
        return statistics.median(self._values[variant])

    def ratio(self, variant: str, to: str) -> float:
        """How many times as much as *to* a variant took: the median of the rounds' ratios."""
        return statistics.median(self.ratios(variant, to))

    def shown_ratio(self, variant: str, to: str) -> str:
        """The ratio with its least and greatest round."""
        ratios = self.ratios(variant, to)
        return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"

    def ratios(self, variant: str, to: str) -> list[float]:
        """Of each round, how many times as much as *to* a variant took."""
        pairs = zip(self._values[variant], self._values[to], strict=True)
        return [value / base for value, base in pairs]


def percentile(values: Sequence[float], share: float) -> float:
    """The value that *share* of them do not exceed."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]


def options(about: str, *, rounds: int | None = None) -> argparse.ArgumentParser:
    """The options that scripts share; *rounds* where there are some."""
    parser = argparse.ArgumentParser(description=about.partition("\n")[0])
    if rounds is not None:
        parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--quick", action="store_true", help="only show that it runs")
    return parser


def show(*tables: Table) -> None:
    """Print tables, and on what machine, when, and with which versions."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    _say_where(console)
    for table in tables:
        console.print(table)


def _say_where(console: Console) -> None:
    memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    console.print(
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {os.cpu_count()} cores of {_processor()}, "
        f"{memory_gib:.0f} GiB; Python {platform.python_version()}; {versions}",
        soft_wrap=True,
        highlight=False,
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
