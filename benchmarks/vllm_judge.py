"""The vLLM judge inside the service beside vLLM's own offline batch call; and what groups save.

usage: python benchmarks/vllm_judge.py [--model smollm2-135m-instruct] [--dtype float32]
       [--prompts 48] [--rounds 5] [--batch 16]

Both engines run in this one process, and take turns on the same prompts, new in each round.
"""

import argparse
import asyncio
import gc
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import httpx
from vllm import LLM

from medreward.app import create_app
from medreward.engines.embedders.hashed import HashedEmbedder
from medreward.engines.judge import Inquiry, View
from medreward.engines.judges.vllm import VllmJudge, one_token
from medreward.engines.judges.vllm_engine import CPU_BLOCK_TOKENS, is_on_cpu
from medreward.engines.models import locate
from medreward.engines.registry import BuildContext, build_judge
from medreward.engines.templates import load_templates
from medreward.errors import Problem
from medreward.settings import Settings
from medreward.telemetry import logs

MATCH = load_templates()["match"]
GROUP = 8
DISTINCT_IN_GROUP = 3
SITES = ("upper lobe", "lower lobe", "hilum", "apex", "pleura", "diaphragm", "heart", "trachea")
TIME_S = 600.0


@dataclass
class Tokens:
    """How many tokens of prompts there were, and how many of them lay in the prefix cache."""

    all: int = 0
    found: int = 0

    def count(self, tokens: int, found: int) -> None:
        """Add one prompt."""
        self.all += tokens
        self.found += found

    @property
    def hit_rate(self) -> float:
        """The share found."""
        return self.found / self.all


@dataclass
class Bench:
    """The two engines, and the prompts of the next round."""

    judge: VllmJudge
    offline: Any
    tokens: Tokens
    size: int
    _round: int = field(default=0)

    def distinct(self) -> list[Inquiry]:
        """Prompts that share the template and nothing else."""
        self._round += 1
        return [
            Inquiry(
                MATCH,
                answer=f"an opacity {member} mm from the right {SITES[member % 8]}",
                reference=f"case {self._round}-{member}: a mass in the left {SITES[member % 7]}",
            )
            for member in range(self.size)
        ]

    def grouped(self, distinct: int, view: View = View.AS_WRITTEN) -> list[Inquiry]:
        """Groups of eight rollouts with so many distinct answers each."""
        self._round += 1
        return [
            Inquiry(
                MATCH,
                answer=f"an opacity of the right {SITES[member % distinct]}",
                reference=f"case {self._round}-{group}: a mass in the left {SITES[group % 7]}, "
                "with spiculated margins, and enlarged lymph nodes beside the trachea",
                view=view,
            )
            for group in range(self.size // GROUP)
            for member in range(GROUP)
        ]

    async def ask_offline(self, inquiries: Sequence[Inquiry]) -> None:
        """Put all to vLLM's own batch call, which blocks."""
        prompts = [{"prompt_token_ids": self.judge.prompt_ids(i)} for i in inquiries]
        params = one_token(self.judge.ids_of(MATCH))
        await asyncio.to_thread(self.offline.generate, prompts, params, use_tqdm=False)

    async def ask_as_the_service(self, inquiries: Sequence[Inquiry]) -> None:
        """Put each distinct one to the engine once, in batches of its size, so many at a time."""
        distinct, size = list(dict.fromkeys(inquiries)), self.judge.capacity.batch
        slots = asyncio.Semaphore(self.judge.capacity.concurrency)

        async def ask(batch: Sequence[Inquiry]) -> None:
            async with slots:
                await self.ask_each(batch)

        starts = range(0, len(distinct), size)
        await asyncio.gather(*(ask(distinct[start : start + size]) for start in starts))

    async def ask_each(self, inquiries: Sequence[Inquiry]) -> None:
        """Put all to the engine, also those that are equal."""
        _check(await self.judge.decide(inquiries))

    async def ask_over_http(self, inquiries: Sequence[Inquiry]) -> None:
        """Send all as one request's samples to the whole service."""
        app = create_app(
            Settings(judge_timeout_s=TIME_S, recipe="medix-r1"),
            judge=self.judge,
            embedder=HashedEmbedder(),
        )
        samples = [
            {"response": f"<answer>{i.answer}</answer>", "reference": i.reference}
            for i in inquiries
        ]
        # Its engine is not the service's to start and end.
        await app.state.service.load()
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            reply = await client.post("/reward", json={"samples": samples}, timeout=TIME_S)
        if reply.json()["counts"]["unscored"]:
            raise SystemExit("not all samples were scored")


def _check(answers: Iterable[object]) -> None:
    problems = [answer for answer in answers if isinstance(answer, Problem)]
    if problems:
        raise SystemExit(f"not all were judged: {problems[0].message}")


async def timed(
    ask: Callable[[Sequence[Inquiry]], Awaitable[None]], inquiries: Sequence[Inquiry]
) -> float:
    """Inquiries a second."""
    started = time.perf_counter()
    await ask(inquiries)
    return len(inquiries) / (time.perf_counter() - started)


Ask = Callable[[Sequence[Inquiry]], Awaitable[None]]
Make = Callable[[], list[Inquiry]]


async def compare(title: str, rounds: int, ways: Mapping[str, tuple[Ask, Make]]) -> None:
    """Print medians, and the median ratio of each way to the first; the order turns each round.

    Ways may use the same engine, and must not find each other's prompts: each makes its own.
    """
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        shift = number % len(ways)
        for name in [*ways][shift:] + [*ways][:shift]:
            ask, make = ways[name]
            speeds[name].append(await timed(ask, make()))
    print(f"{title}: median of {rounds}")
    base = next(iter(speeds.values()))
    for name, found in speeds.items():
        ratio = statistics.median(f / b for f, b in zip(found, base, strict=True))
        print(f"  {name:52} {statistics.median(found):7.1f} a second   {ratio:5.2f} times")


def best_hit_rate(
    prompts: Iterable[Sequence[int]], block: int, known: set[tuple[int, ...]]
) -> float:
    """The share of tokens that a cache of whole blocks can find, asked one after another."""
    found = tokens = 0
    for prompt in prompts:
        ends = range(block, len(prompt), block)
        found += block * sum(tuple(prompt[:end]) in known for end in ends)
        tokens += len(prompt)
        known.update(tuple(prompt[:end]) for end in ends)
    return found / tokens


async def show_hit_rates(bench: Bench) -> None:
    """Print the prefix cache's hit rate with the candidate last and with it before the reference."""
    print("prefix cache, groups of eight distinct answers sent at once")
    for name, view in (("candidate last", View.AS_WRITTEN), ("candidate first", View.SWAPPED)):
        inquiries = bench.grouped(GROUP, view)
        bench.tokens.all = bench.tokens.found = 0
        await bench.ask_each(inquiries)
        prompts = [bench.judge.prompt_ids(i) for i in inquiries]
        print(f"  {name:18} {bench.tokens.hit_rate:.1%} of {bench.tokens.all} tokens found", end="")
        if is_on_cpu():
            # The template's own text is in the cache since the warm-up.
            known: set[tuple[int, ...]] = set()
            best_hit_rate([bench.judge.prompt_ids(bench.distinct()[0])], CPU_BLOCK_TOKENS, known)
            best = best_hit_rate(prompts, CPU_BLOCK_TOKENS, known)
            print(f"; one after another would find {best:.1%}", end="")
        print()


async def run(arguments: argparse.Namespace) -> None:
    """Start both engines, and compare."""
    settings = Settings(
        judge="vllm",
        judge_model=arguments.model,
        judge_timeout_s=TIME_S,
        vllm_dtype=arguments.dtype,
        vllm_kv_cache_gib=arguments.kv_cache_gib,
    )
    tokens = Tokens()
    with ThreadPoolExecutor(1) as worker:
        judge = build_judge(BuildContext(settings, worker))
        assert isinstance(judge, VllmJudge)  # noqa: S101 - the settings name it
        judge.count_tokens = tokens.count
        if arguments.batch:
            judge.capacity = replace(judge.capacity, batch=arguments.batch)
        await judge.start()
        model = locate(arguments.model, settings.models_dir)
        same = {**judge.engine_arguments, "model": model}
        del same["enable_log_requests"]  # it never does
        offline = await asyncio.to_thread(LLM, **same)
        bench = Bench(judge, offline, tokens, arguments.prompts)
        try:
            await measure(bench, arguments.rounds)
        finally:
            await judge.aclose()
            del offline, bench.offline
            gc.collect()


async def measure(bench: Bench, rounds: int) -> None:
    """Warm both up, then print the three comparisons."""
    for _ in range(2):
        await bench.ask_offline(bench.distinct())
        await bench.ask_as_the_service(bench.distinct())
    distinct = {
        "vLLM's own offline batch": (bench.ask_offline, bench.distinct),
        "ours, in the engine's batches": (bench.ask_as_the_service, bench.distinct),
        "ours, /reward of the whole service": (bench.ask_over_http, bench.distinct),
    }
    await compare(f"{bench.size} distinct prompts", rounds, distinct)
    three = partial(bench.grouped, DISTINCT_IN_GROUP)
    grouped = {
        "eight distinct answers": (bench.ask_as_the_service, partial(bench.grouped, GROUP)),
        "three distinct answers, each of the eight asked": (bench.ask_each, three),
        "three distinct answers, each asked once": (bench.ask_as_the_service, three),
    }
    await compare(f"samples in groups of {GROUP}", rounds, grouped)
    await show_hit_rates(bench)


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--dtype", default=None)
    parser.add_argument("--kv-cache-gib", type=float, default=1.0)
    parser.add_argument("--prompts", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, help="instead of the engine's own size")
    # What the processes would say is not ours to measure.
    os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
    logs.configure("error", "console")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
