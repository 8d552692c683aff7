"""The embedder in this process beside one `encode` of two texts a sample, interleaved.

usage: python benchmarks/embedding.py [--rounds 5] [--quick] [--threads 2]

Needs the embedded profile's embedder (`medreward models fetch all-minilm-l6-v2`). 64 prompts of eight rollouts with
three distinct answers each. Prints samples a second (median of the rounds) and the ratio to the
published way (median of the per-round ratios); stops where a cosine is 1e-3 or more apart.
"""

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rich.console import Console
from rich.table import Table

from medreward.engines.embedder import cosine
from medreward.engines.embedders.sentence_transformer import SentenceTransformerEmbedder
from medreward.engines.registry import BuildContext, build_embedder
from medreward.settings import Settings

SENTENCE = (
    "acute chronic left right upper lower lobe consolidation effusion pneumothorax fracture of "
    "the distal radius spiculated mass with enlarged lymph nodes no evidence of oedema"
)
WORDS = SENTENCE.split()
ROLLOUTS, DISTINCT = 8, 3
MOST_APART = 1e-3

Pairs = Sequence[tuple[str, str]]
"""Answer and reference of each sample."""


def published(model: Any, pairs: Pairs) -> list[float]:
    """Encode answer and reference of one sample at a time."""
    found = []
    for answer, reference in pairs:
        vectors = model.encode([answer, reference], show_progress_bar=False)
        found.append(float(model.similarity(vectors[0], vectors[1])[0, 0]))
    return found


def batched(model: Any, pairs: Pairs) -> list[float]:
    """Encode all answers and references in one call."""
    vectors = model.encode([text for pair in pairs for text in pair], show_progress_bar=False)
    return [cosine(vectors[i], vectors[i + 1]) for i in range(0, len(vectors), 2)]


def ours(embedder: SentenceTransformerEmbedder, pairs: Pairs) -> list[float]:
    """Embed each distinct text once, as the service does."""
    return asyncio.run(_ours(embedder, pairs))


async def _ours(embedder: SentenceTransformerEmbedder, pairs: Pairs) -> list[float]:
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    vectors: list[Any] = []
    for start in range(0, len(texts), embedder.capacity.batch):
        vectors += await embedder.embed(texts[start : start + embedder.capacity.batch])
    by_text = dict(zip(texts, vectors, strict=True))
    return [cosine(by_text[answer], by_text[reference]) for answer, reference in pairs]


def samples(prompts: int) -> list[tuple[str, str]]:
    """Answers of 3 to 30 words, three distinct ones a prompt, with their references."""
    chance = random.Random(1)  # noqa: S311 - the same texts every time

    def some_text() -> str:
        return " ".join(chance.choices(WORDS, k=round(chance.triangular(3, 30, 8))))

    pairs = []
    for _ in range(prompts):
        reference, answers = some_text(), [some_text() for _ in range(DISTINCT)]
        pairs += [(answers[i % DISTINCT], reference) for i in range(ROLLOUTS)]
    return pairs


def measure(
    ways: dict[str, Callable[[Pairs], list[float]]], pairs: Pairs, rounds: int
) -> tuple[dict[str, list[float]], float]:
    """Time each way in turn, and find how far cosines are from those of the first."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            found[name] = way(pairs)
            seconds[name].append(time.perf_counter() - started)
    expected, *others = found.values()
    apart = max(abs(a - b) for other in others for a, b in zip(expected, other, strict=True))
    return seconds, apart


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--quick", action="store_true", help="fewer prompts and rounds")
    options = parser.parse_args()
    rounds, pairs = (3, samples(16)) if options.quick else (options.rounds, samples(64))
    with ThreadPoolExecutor(max_workers=1) as worker:
        embedder = build_embedder(BuildContext(Settings(torch_threads=options.threads), worker))
        assert isinstance(embedder, SentenceTransformerEmbedder)  # noqa: S101 - the embedded profile's
        model = embedder._model  # noqa: SLF001 - the very same
        ways: dict[str, Callable[[Pairs], list[float]]] = {
            "one encode a sample": lambda pairs: published(model, pairs),
            "one encode of everything": lambda pairs: batched(model, pairs),
            "ours": lambda pairs: ours(embedder, pairs),
        }
        seconds, apart = measure(ways, pairs, rounds)
    base = seconds["one encode a sample"]
    table = Table("way", "samples/s", "ratio", title=f"{len(pairs)} samples; {apart:.1e} apart")
    for name, taken in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(base, taken, strict=True))
        table.add_row(name, f"{len(pairs) / statistics.median(taken):.0f}", f"{ratio:.2f}")
    Console().print(table)
    if apart >= MOST_APART:
        raise SystemExit(f"cosines are {apart:.1e} apart")


if __name__ == "__main__":
    main()
