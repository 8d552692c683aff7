"""The judge in this process beside plain transformers on the same prompts, interleaved.

usage: python benchmarks/local_judge.py [--rounds 5] [--quick] [--threads 2]

Needs `medreward models fetch smollm2-135m-instruct`. Prints samples a second (median of
the rounds) and the ratio to plain transformers (median of the per-round ratios), for prompts that
all differ and for groups of eight rollouts with three distinct answers, where plain transformers
is asked once a sample.
"""

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from medreward.engines.judge import Inquiry, Judgement
from medreward.engines.judges.causal_lm import CausalLmJudge
from medreward.engines.local.forward import PaddedPasses
from medreward.engines.registry import BuildContext, build_judge
from medreward.engines.templates import Template, load_templates
from medreward.settings import Settings

SENTENCE = (
    "acute chronic left right upper lower lobe consolidation effusion pneumothorax fracture of "
    "the distal radius spiculated mass with enlarged lymph nodes no evidence of oedema"
)
WORDS = SENTENCE.split()
ROLLOUTS, DISTINCT = 8, 3


class Plain:
    """What transformers does with prompts that are all there: sorted by length, in batches."""

    def __init__(self, judge: CausalLmJudge, batch: int) -> None:
        self._judge = judge
        self._batch = batch

    @torch.inference_mode()
    def p_yes(self, inquiries: Sequence[Inquiry]) -> list[float]:
        """P(YES) of each."""
        tokenizer, model = self._judge._tokenizer, self._judge._model  # noqa: SLF001 - the very same
        tokenizer.padding_side = "left"
        prompts = [self._judge.prompt_ids(inquiry) for inquiry in inquiries]
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        found: dict[int, float] = {}
        for start in range(0, len(order), self._batch):
            group = order[start : start + self._batch]
            rows = tokenizer.pad({"input_ids": [prompts[i] for i in group]}, return_tensors="pt")
            logits = model(**rows, logits_to_keep=1, use_cache=False).logits[:, -1]
            for i, row in zip(group, logits.float().softmax(-1), strict=True):
                yes, no = (float(row[ids].sum()) for ids in self._ids(inquiries[i].template))
                found[i] = yes / (yes + no)
        return [found[i] for i in range(len(inquiries))]

    def _ids(self, template: Template) -> list[list[int]]:
        return self._judge.ids_of(template)


def ours(judge: CausalLmJudge, inquiries: Sequence[Inquiry]) -> list[float]:
    """P(YES) of each by `decide`, equal inquiries asked once, as the service does."""

    async def ask(distinct: list[Inquiry]) -> dict[Inquiry, Any]:
        answers: list[Any] = []
        for start in range(0, len(distinct), judge.capacity.batch):
            answers += await judge.decide(distinct[start : start + judge.capacity.batch])
        return dict(zip(distinct, answers, strict=True))

    answers = asyncio.run(ask(list(dict.fromkeys(inquiries))))
    assert all(isinstance(answer, Judgement) for answer in answers.values())  # noqa: S101
    return [answers[inquiry].p_yes for inquiry in inquiries]


def some_text(chance: random.Random, fewest: int, most: int) -> str:
    """A phrase of that many words."""
    return " ".join(chance.choices(WORDS, k=chance.randint(fewest, most)))


def all_different(template: Template, count: int) -> list[Inquiry]:
    """Inquiries of which no two share a reference."""
    chance = random.Random(1)  # noqa: S311 - the same texts every time
    return [
        Inquiry(
            template, some_text(chance, 2, 10), some_text(chance, 2, 8), some_text(chance, 6, 20)
        )
        for _ in range(count)
    ]


def in_groups(template: Template, groups: int) -> list[Inquiry]:
    """Inquiries of groups of eight rollouts with three distinct answers each."""
    chance = random.Random(2)  # noqa: S311 - as above
    inquiries = []
    for _ in range(groups):
        reference, question = some_text(chance, 2, 8), some_text(chance, 6, 20)
        answers = [some_text(chance, 2, 10) for _ in range(DISTINCT)]
        inquiries += [
            Inquiry(template, answers[i % DISTINCT], reference, question) for i in range(ROLLOUTS)
        ]
    return inquiries


def compare(
    title: str,
    ways: dict[str, Callable[[Sequence[Inquiry]], list[float]]],
    inquiries: list[Inquiry],
    rounds: int,
) -> Table:
    """Time each way in turn; the first is what the others are compared with."""
    expected, *others = (way(inquiries) for way in ways.values())
    apart = max(abs(a - b) for other in others for a, b in zip(expected, other, strict=True))
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            way(inquiries)
            seconds[name].append(time.perf_counter() - started)
    base = next(iter(seconds.values()))
    table = Table("way", "samples/s", "ratio", title=f"{title}; P(YES) at most {apart:.1e} apart")
    for name, taken in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(base, taken, strict=True))
        table.add_row(name, f"{len(inquiries) / statistics.median(taken):.1f}", f"{ratio:.2f}")
    return table


def main() -> None:
    """Run the rounds and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--quick", action="store_true", help="fewer prompts and rounds")
    options = parser.parse_args()
    rounds, size = (3, 2) if options.quick else (options.rounds, 4)
    console = Console()
    with ThreadPoolExecutor(max_workers=1) as worker:
        settings = Settings(
            judge="causal_lm", judge_model="smollm2-135m-instruct", torch_threads=options.threads
        )
        context = BuildContext(settings, worker)
        sharing, padded = (build_judge(context) for _ in range(2))
        assert isinstance(sharing, CausalLmJudge)  # noqa: S101 - what the engine builds
        assert isinstance(padded, CausalLmJudge)  # noqa: S101
        padded._passes = PaddedPasses(padded._model)  # noqa: SLF001 - the way before prefixes were shared
        ways = {
            "transformers, batches of 16": Plain(sharing, 16).p_yes,
            "transformers, batches of 32": Plain(sharing, 32).p_yes,
            "ours, nothing shared": lambda inquiries: ours(padded, inquiries),
            "ours": lambda inquiries: ours(sharing, inquiries),
        }
        for name in ("match", "equivalence"):
            template = load_templates()[name]
            different, grouped = all_different(template, 8 * size), in_groups(template, size)
            console.print(compare(f"{name}: {len(different)} different", ways, different, rounds))
            console.print(compare(f"{name}: {size} groups, 3 of 8", ways, grouped, rounds))


if __name__ == "__main__":
    main()
