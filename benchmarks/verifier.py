"""The cross-encoder judge on pairs of medical answers: pairs a second, by tokens in a pass.

usage: python benchmarks/verifier.py [--model FOLDER] [--pairs 512] [--rounds 3] [--threads 1]

Without --model it takes the installed verifier, or, where that is missing, the embedder of the
embedded profile with a classifier's head of random weights: as large, and as slow. Seconds are
those of the process's CPU, so that a machine that does other work beside it tells the same.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from medreward.engines.judge import Inquiry
from medreward.engines.judges import cross_encoder
from medreward.engines.judges.cross_encoder import CrossEncoderJudge
from medreward.engines.models import locate
from medreward.engines.templates import load_templates
from medreward.errors import SetupError
from medreward.settings import default_models_dir

SENTENCE = (
    "acute chronic left right upper lower lobe consolidation effusion pneumothorax fracture of "
    "the distal radius spiculated mass with enlarged lymph nodes no evidence of oedema"
)
WORDS = SENTENCE.split()
QUESTION = "What is the most likely finding on this chest radiograph of a patient with cough?"
TOKENS_PER_PASS = (512, 1024, 2048, 4096)


def pairs(number: int, *, has_question: bool) -> list[Inquiry]:
    """Answers and references of two to twelve words, as short answers have them."""
    random = Random(number)  # noqa: S311 - no secret

    def phrase() -> str:
        return " ".join(random.choices(WORDS, k=random.randint(2, 12)))

    template = load_templates()["equivalence"]
    question = QUESTION if has_question else None
    return [Inquiry(template, phrase(), phrase(), question) for _ in range(number)]


def made_up(folder: Path) -> Path:
    """A classifier of the verifier's size, with a head of random weights."""
    source = locate("all-minilm-l6-v2", default_models_dir())
    names = {0: "NO", 1: "YES"}
    model = AutoModelForSequenceClassification.from_pretrained(source, id2label=names)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return folder


def located(given: Path | None, spare: Path) -> Path:
    """Choose the model: the one given, the installed one, or one made up."""
    if given is not None:
        return given
    try:
        return Path(locate("medreward-verifier", default_models_dir()))
    except SetupError:
        return made_up(spare)


async def cpu_seconds(judge: CrossEncoderJudge, inquiries: Sequence[Inquiry]) -> float:
    """What judging all of them takes, in batches as the service makes them."""
    started, batch = time.process_time(), judge.capacity.batch
    for start in range(0, len(inquiries), batch):
        await judge.decide(inquiries[start : start + batch])
    return time.process_time() - started


def main() -> None:
    """Measure each size of a pass on the same pairs, in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--pairs", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    table = Table("question", "tokens in a pass", "pairs a CPU second")
    with tempfile.TemporaryDirectory() as spare, ThreadPoolExecutor(1) as worker:
        source = located(options.model, Path(spare))
        judge = CrossEncoderJudge.load(source, name="measured", worker=worker, timeout_s=3600)
        for has_question in (False, True):
            inquiries = pairs(options.pairs, has_question=has_question)
            taken: dict[int, list[float]] = {tokens: [] for tokens in TOKENS_PER_PASS}
            for _ in range(options.rounds):
                for tokens, seconds in taken.items():
                    cross_encoder.PADDED_TOKENS_PER_PASS = tokens
                    seconds.append(asyncio.run(cpu_seconds(judge, inquiries)))
            for tokens, seconds in taken.items():
                speed = len(inquiries) / statistics.median(seconds)
                table.add_row("yes" if has_question else "no", str(tokens), f"{speed:.0f}")
    console = Console()
    console.print(f"{source}, {options.threads} thread(s), {options.pairs} pairs")
    console.print(table)


if __name__ == "__main__":
    main()
