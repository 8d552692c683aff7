"""Grading a file of predictions: MediX-R1's published evaluation beside ours; then a million.

usage: python benchmarks/grading.py [--rounds 3] [--samples 1024] [--delay-ms 30] [--million 1000000]

First: both grade the same new predictions with the same stand-in for the judge, in turn. Theirs
asks it three times for each answer, one after the other, with 16 workers; ours is a service that
asks for three views, and `medreward-eval`'s run. The scores have to agree. Aim: 10 times as fast.

Then: so many saved predictions through `medreward-eval grade` as a process, to a service with a
scripted judge, and how its memory and its pace go on the way. It is flat if the last tenth is at
most 5 % over the second. `--million 0` leaves it out.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
from rich.table import Table

from baselines import medix_eval
from figures import Rounds, options, show
from medreward_client import AsyncRewardClient
from medreward_eval.grading.grader import Grader, find_identity, grades_header
from medreward_eval.grading.predictions import Reading, inspect_predictions
from medreward_eval.grading.run import grade
from medreward_eval.journal import Journal, latest_rows
from rollouts import make_rollouts, nonces
from running import Server, service, stand_in

WORKERS = 16
FLAT = 1.05
TENTHS = 10
POLL_S = 0.05
QUESTION = "What does the image show, and on which side? Answer in a few words. " * 3


def write_new(path: Path, number: int, nonce: str) -> None:
    """Write predictions that no cache has seen."""
    rows = (rollout.renewed(nonce) for rollout in make_rollouts(number))
    path.write_text(
        "".join(
            json.dumps({"id": one.id, "question": one.question, "reference": one.truth,
                        "response": one.answer}) + "\n"
            for one in rows
        )
    )  # fmt: skip


async def ours(url: str, predictions: Path, out: Path) -> dict[str, float]:
    """Grade by our run; give each id's score."""
    async with AsyncRewardClient(url) as client:
        # Theirs has no rules in front of the judge.
        grader_identity = await find_identity(client, ["equivalence"], rules=False)
        total = inspect_predictions(predictions, Reading({})).total
        with Journal(out, grades_header("m", grader_identity, [], votes=3, total=total)) as journal:
            grader = Grader(client, grader_identity, rules=False)
            await grade(predictions, Reading({}), journal, grader, show=lambda **_: None)
    return {row["id"]: row["grade"]["score"] for row in latest_rows(out)}


def compare(rounds: int, number: int, delay_ms: float) -> Table:
    """Seconds of both, in turn."""
    took, fresh = Rounds(), nonces()
    with (
        stand_in(delay_ms) as engines,
        service(engines) as running,
        tempfile.TemporaryDirectory() as folder,
    ):
        for turn in range(-1, rounds):  # the first one opens connections, and does not count
            path = Path(folder) / f"p{turn}.jsonl"
            write_new(path, number, next(fresh))
            began_s = time.perf_counter()
            theirs = medix_eval.grade(engines.url, path, path.with_suffix(".theirs"), WORKERS)
            between_s = time.perf_counter()
            mine = asyncio.run(ours(running.url, path, path.with_suffix(".ours")))
            ended_s = time.perf_counter()
            if mine != theirs:
                raise SystemExit("the scores differ")
            if turn >= 0:
                took.add("theirs", between_s - began_s)
                took.add("ours", ended_s - between_s)
    title = f"{number:,} new predictions, judge {delay_ms:g} ms"
    table = Table("way", "seconds", "predictions a second", "times ours", title=title)
    for way, name in (("theirs", f"MediX-R1's, {WORKERS} workers"), ("ours", "medreward-eval")):
        median = took.median(way)
        table.add_row(name, f"{median:.2f}", f"{number / median:,.0f}",
                      took.shown_ratio(way, "ours"))  # fmt: skip
    return table


def write_saved(path: Path, number: int) -> None:
    """Write predictions: half options in plain words, the others for the judge."""
    with path.open("wb") as lines:
        for start in range(0, number, 10_000):
            rows = _saved(range(start, min(number, start + 10_000)))
            lines.write(b"".join(orjson.dumps(row) + b"\n" for row in rows))


def _saved(numbers: range) -> Iterator[dict[str, object]]:
    for n in numbers:
        row = {"id": f"p{n}", "question": f"{QUESTION}{n}", "reference": f"left lobe {n % 977}"}
        if n % 2:
            yield {**row, "response": "B", "options": ["right lobe", f"left lobe {n % 977}"]}
        else:
            yield {**row, "response": f"<think>{QUESTION}</think>left lobe {n % 1009}"}


def many(number: int) -> Table:
    """Memory and pace of a process that grades a long file."""
    looks: list[tuple[int, float, float]] = []
    with (
        stand_in() as engines,
        service(engines, judge="scripted", embedder="hashed") as running,
        tempfile.TemporaryDirectory() as folder,
    ):
        path, out = Path(folder) / "saved.jsonl", Path(folder) / "grades.jsonl"
        write_saved(path, number)
        command = [sys.executable, "-m", "medreward_eval", "grade", str(path), "--out", str(out)]
        with subprocess.Popen(
            [*command, "--url", running.url], stdout=subprocess.DEVNULL
        ) as process:
            looks = list(_looks(Server("", process.pid), process, out, number))
        if process.returncode:
            raise SystemExit(f"{command}: {process.returncode}")
        lines = sum(1 for _ in latest_rows(out))
        if lines != number:
            raise SystemExit(f"{lines} grades of {number}")
    resident = [mb for _, _, mb in looks]
    verdict = "flat" if resident[-1] <= FLAT * resident[1] else "NOT FLAT"
    table = Table(
        "graded", "predictions a second", "resident MB",
        title=f"{number:,} saved predictions, a scripted judge: memory {verdict}",
    )  # fmt: skip
    for graded, offload, mb in looks:
        table.add_row(f"{graded:,}", f"{offload:,.0f}", f"{mb:.0f}")
    return table


def _looks(
    server: Server, process: subprocess.Popen[bytes], out: Path, number: int
) -> Iterator[tuple[int, float, float]]:
    """Look at each tenth: how far it is, its pace since the last look, its memory."""
    graded = seen = position = 0
    last_s = time.perf_counter()
    for tenth in range(1, TENTHS + 1):
        aim = number * tenth // TENTHS
        while graded < aim and process.poll() is None:
            time.sleep(POLL_S)
            if out.exists():
                with out.open("rb") as lines:
                    lines.seek(position)
                    new = lines.read()
                position += len(new)
                graded += new.count(b"\n")
                mb = server.resident_mb if process.poll() is None else 0.0
        now_s = time.perf_counter()
        yield graded, (graded - seen) / (now_s - last_s), mb
        seen, last_s = graded, now_s


def main() -> None:
    """Measure, and print."""
    parser = options(__doc__ or "", rounds=3)
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--delay-ms", type=float, default=30.0)
    parser.add_argument("--million", type=int, default=1_000_000)
    chosen: argparse.Namespace = parser.parse_args()
    if chosen.quick:
        chosen.rounds, chosen.samples, chosen.delay_ms, chosen.million = 1, 64, 1.0, 4_000
    tables = [compare(chosen.rounds, chosen.samples, chosen.delay_ms)]
    if chosen.million:
        tables.append(many(chosen.million))
    show(*tables)


if __name__ == "__main__":
    main()
