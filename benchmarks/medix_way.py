"""A step's new rollouts, with a real embedder: MediX-R1's own way beside one call of the client.

usage: python benchmarks/medix_way.py [--rounds 3] [--samples 512] [--delay-ms 30]

The published reward asks the judge and encodes two texts for one sample after the other, in the
trainer; ours is `RewardClient.reward`, to a service that holds the same embedder (MiniLM, the same
number of torch's threads) and asks the same stand-in for the judge. New samples in each round, in
turn; the rewards have to agree. The last two rows have no embedder on either side.
Aims: 8 times as fast with answers that all differ, 20 times with three in a group of eight, and 60
times without the embedder. Needs MiniLM: `medreward models fetch all-minilm-l6-v2`.
"""

import argparse
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from rich.table import Table

from baselines import medix_r1, mini_lm
from baselines.medix_r1 import JUDGE_ALONE, PUBLISHED
from figures import Rounds, options, show
from medreward.engines.models import locate
from medreward.settings import default_models_dir
from medreward_client import RewardClient, RewardReply, Sample, Scored
from rollouts import Rollout, make_rollouts, nonces
from running import service, stand_in

T = TypeVar("T")

MODEL = "all-minilm-l6-v2"
BORDER = 1e-3
"""Cosines so near to the threshold may fall on either side: sums depend on the batch."""
AIMS = "aims: 8 times ours with eight distinct answers, 20 with three, 60 without the embedder"


@dataclass(frozen=True, slots=True)
class Case:
    """What is scored, and by which rules."""

    name: str
    rollouts: Sequence[Rollout]
    recipe: str
    aim: float

    @property
    def has_embedder(self) -> bool:
        """Whether the embedder is part of it."""
        return self.recipe == "medix-r1"


def cases(number: int) -> list[Case]:
    """Groups with three distinct answers and with eight, with an embedder and without."""
    three = make_rollouts(number)
    eight = [_told_apart(rollout, n) for n, rollout in enumerate(three)]
    return [
        Case("eight distinct answers in a group of eight", eight, "medix-r1", 8),
        Case("three distinct answers in a group of eight", three, "medix-r1", 20),
        Case("eight distinct, without the embedder", eight, "judge-alone", 60),
        Case("three distinct, without the embedder", three, "judge-alone", 60),
    ]


def _told_apart(rollout: Rollout, number: int) -> Rollout:
    answer = f"{rollout.answer}, view {number}"
    response = rollout.response.replace(f"<answer>{rollout.answer}", f"<answer>{answer}")
    return replace(rollout, answer=answer, response=response)


class Bench:
    """Both ways to score, ready to be used."""

    def __init__(self, client: RewardClient, judge_url: str, embed: medix_r1.Embed) -> None:
        self._client = client
        self._judge_url = judge_url
        self._embed = embed

    def published(self, case: Case, nonce: str) -> tuple[list[float], float]:
        """Give the rewards one after the other, and the seconds that took."""
        pairs = [(r.response, r.reference) for r in self._renewed(case, nonce)]
        weights = PUBLISHED if case.has_embedder else JUDGE_ALONE
        embed = self._embed if case.has_embedder else medix_r1.never_near
        return _timed(lambda: medix_r1.rewards(self._judge_url, pairs, weights, embed))

    def ours(self, case: Case, nonce: str) -> tuple[RewardReply, float]:
        """Give the client's reply, and the seconds that took."""
        samples = [Sample(**r.sample()) for r in self._renewed(case, nonce)]
        return _timed(lambda: self._client.reward(samples, recipe=case.recipe))

    @staticmethod
    def _renewed(case: Case, nonce: str) -> list[Rollout]:
        return [rollout.renewed(nonce) for rollout in case.rollouts]


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    done = work()
    return done, time.perf_counter() - started


def check_same(case: Case, published: Sequence[float], reply: RewardReply) -> None:
    """Stop unless both gave the same rewards, but for cosines at the threshold."""
    for right, result in zip(published, reply.results, strict=True):
        if not isinstance(result, Scored):
            raise SystemExit(f"{case.name}: not scored: {result.error.kind}")
        part = result.components.get("accuracy_embed")
        cosine = None if part is None else part.cosine
        is_open = cosine is not None and abs(cosine - mini_lm.THRESHOLD) < BORDER
        if not (is_open or math.isclose(right, result.reward)):
            raise SystemExit(f"{case.name}: {result.reward} for {right}")


def measure(bench: Bench, tried: Sequence[Case], rounds: int) -> dict[str, Rounds]:
    """Seconds of both ways, by case."""
    fresh = nonces()
    took = {case.name: Rounds() for case in tried}
    for case in tried:
        bench.ours(case, next(fresh))  # connections opened, code paths taken once
    for _ in range(rounds):
        for case in tried:
            nonce = next(fresh)
            published, published_s = bench.published(case, nonce)
            reply, ours_s = bench.ours(case, nonce)
            check_same(case, published, reply)
            took[case.name].add("published", published_s)
            took[case.name].add("ours", ours_s)
    return took


def table_of(took: dict[str, Rounds], tried: Sequence[Case], about: str) -> Table:
    """What both ways took."""
    columns = ("MediX-R1 s", "ours s", "times ours", "aim")
    table = Table("samples", *columns, title=about, caption=AIMS)
    for case in tried:
        rounds = took[case.name]
        seconds = (f"{rounds.median(way):.2f}" for way in ("published", "ours"))
        ratio = rounds.shown_ratio("published", "ours")
        table.add_row(case.name, *seconds, ratio, f"{case.aim:g}")
    return table


def run(arguments: argparse.Namespace, model: Path) -> None:
    """Start the servers, measure, print."""
    number, rounds = (16, 1) if arguments.quick else (arguments.samples, arguments.rounds)
    tried = cases(number)
    held_here = {
        "embedder": "sentence_transformer",
        "embedder_model": MODEL,
        "torch_threads": arguments.threads,
    }
    with (
        stand_in(arguments.delay_ms) as judge,
        service(judge, **held_here) as server,
        RewardClient(server.url) as client,
    ):
        bench = Bench(client, f"{judge.url}/v1", mini_lm.load(model, arguments.threads))
        took = measure(bench, tried, rounds)
    about = f"{number} new samples, judge {arguments.delay_ms:g} ms, {arguments.threads} threads"
    show(table_of(took, tried, about))


def main() -> None:
    """Read the arguments and run."""
    parser = options(__doc__, rounds=3)
    parser.add_argument("--delay-ms", type=float, default=30.0)
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count(), help="of torch, on each side"
    )
    run(parser.parse_args(), Path(locate(MODEL, default_models_dir())))


if __name__ == "__main__":
    main()
