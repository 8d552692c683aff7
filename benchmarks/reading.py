"""Reading a response: ours beside the published regular expressions, interleaved in one process.

usage: python benchmarks/reading.py [--rounds 7]

Prints microseconds a response (median of the rounds) and the ratio (median of the per-round
ratios). Then the worst of 64 KB and 1 MB of nasty texts; the expressions are given the 4 KB
version of those only, since some of them would take minutes.
"""

import argparse
import re
import statistics
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from medreward.parsing.completion import read_completion
from medreward.recipes.recipe import load_recipes

TAGS = load_recipes()["medix-r1"].tags
SENTENCE = "The opacity is dense (>= 3 cm), left of the midline; compare 120/80 and p < 0.05. "


def published(response: str) -> tuple[str, bool, str]:
    """Answer, format and heading by the published expressions."""
    text = re.sub(r"\s*(<|>|/)\s*", r"\1", response)
    answer = re.search(r"<answer>(.*?)</answer>", text, re.DOTALL)
    start = text.find("<thinking>")
    shape = re.compile(r"<thinking>.*?</thinking>\s*<answer>.*?</answer>", re.DOTALL)
    well_formed = start >= 0 and shape.fullmatch(text[start:].strip()) is not None
    return answer[1] if answer else text, well_formed, text[: max(start, 0)]


def ours(response: str) -> object:
    """The same, by the service's reader."""
    return read_completion(response, TAGS)


def ordinary(characters: int) -> str:
    """A well-formed response of about this length."""
    thinking = (SENTENCE * (characters // len(SENTENCE) + 1))[: characters - 80]
    return f"<X_RAY>\n<thinking>{thinking}</thinking>\n<answer>Left lower lobe</answer>"


NASTY = {
    "`<answer>` repeated, never closed": "<answer>",
    "`<thinking>` repeated": "<thinking>",
    "`</thinking><answer>` repeated": "</thinking><answer>",
    "`</thinking>` and spaces": "</thinking>" + " " * 60,
    "newlines between two words": "\n",
    "words and newlines": "word" + "\n" * 500,
}


def nasty(piece: str, characters: int) -> str:
    """A text of this length made of one piece, between two words."""
    return "word" + (piece * (characters // len(piece) + 1))[:characters] + "word"


def seconds(read: Callable[[str], object], text: str, repeats: int) -> float:
    """Seconds for one reading, over several."""
    started = time.perf_counter()
    for _ in range(repeats):
        read(text)
    return (time.perf_counter() - started) / repeats


def main() -> None:
    """Run the rounds and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    console = Console()
    table = Table("response", "published µs", "ours µs", "ratio", title="Ordinary responses")
    for characters in (512, 2048, 8192):
        text = ordinary(characters)
        pairs = [(seconds(published, text, 200), seconds(ours, text, 200)) for _ in range(rounds)]
        theirs, our = (statistics.median(column) * 1e6 for column in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        table.add_row(f"{characters} characters", f"{theirs:.1f}", f"{our:.1f}", f"{ratio:.1f}")
    console.print(table)
    worst = Table("text", "published, 4 KB", "ours, 4 KB", "ours, 64 KB", "ours, 1 MB", title="ms")
    for name, piece in NASTY.items():
        texts = [nasty(piece, size) for size in (4096, 65_536, 1_048_576)]
        cells = [min(seconds(published, texts[0], 1) for _ in range(3))]
        cells += [min(seconds(ours, text, 1) for _ in range(3)) for text in texts]
        worst.add_row(name, *(f"{cell * 1e3:.2f}" for cell in cells))
    console.print(worst)


if __name__ == "__main__":
    main()
