"""`medreward verifier`: training and measurement of the embedded verifier."""

from pathlib import Path

import torch
from rich.table import Table

from medreward.cli.environment import read_settings
from medreward.cli.tables import plain_table
from medreward.cli.terminal import counting, messages, output, shown, silence_other_bars
from medreward.engines.models import CATALOGUE, folder_of, locate
from medreward.verifier.evaluate import Scores, measure
from medreward.verifier.examples import held_out
from medreward.verifier.package import REPORTING, SIZE, load_scorer, pack, shipped_threshold
from medreward.verifier.train import Plan, Step, train

BASE = "all-minilm-l6-v2"
AIMS = {"auc": "≥ 0.96", "far": "≥ 65 %", "sibling": "≤ 8 %", "swap": "≤ 1 %"}
MEANINGS = {
    "auc": "area under the ROC curve, right against wrong",
    "threshold": "P(YES) above which the verdict is YES, before calibration",
    "far": "synonyms that share under a quarter of their words: YES",
    "near": "other synonyms: YES",
    "sibling": "terms of the same parent: YES",
    "swap": "left/right, hypo/hyper, increased/decreased and the like: YES",
    "unrelated": "any two terms: YES",
}


def train_verifier(out: Path, plan: Plan, *, version: str, threads: int | None) -> None:
    """Train, choose thresholds, and write a model folder.

    Raises:
        SetupError: the base model, or a package with terms, is missing.
    """
    silence_other_bars()
    if threads is not None:
        torch.set_num_threads(threads)
    base = Path(locate(BASE, read_settings().models_dir))
    with counting("training", 1000) as advance:
        told = 0

        def watch(step: Step) -> None:
            nonlocal told
            reached = 1000 * step.done // step.total
            advance(reached - told)
            told = reached
            if step.scores is not None:
                messages().print(_line(step, step.scores))

        train(base, out, plan, watch)
    scores = pack(out, version, load_scorer(out))
    output().print(_table(scores))
    output().print(shown(f"written to {out}"), soft_wrap=True)


def measure_verifier(folder: Path | None) -> None:
    """Measure a model folder, or the installed verifier, on terms that decided no threshold."""
    silence_other_bars()
    model = CATALOGUE["medreward-verifier"]
    folder = folder or folder_of(model, read_settings().models_dir)
    pairs, threshold = held_out(size=SIZE, digits=REPORTING), shipped_threshold(folder)
    output().print(_table(measure(pairs, load_scorer(folder), threshold)))


def _line(step: Step, scores: Scores) -> str:
    return (
        f"step {step.done} of {step.total}: loss {step.loss:.3f}, AUC {scores.auc:.3f}, "
        f"far {scores.far:.0%}, sibling {scores.sibling:.1%}, swap {scores.swap:.1%}"
    )


def _table(scores: Scores) -> Table:
    table = plain_table("measure", "value", "aim", "of what")
    for name, value in scores._asdict().items():
        written = f"{value:.4f}" if name in {"auc", "threshold"} else f"{value:.1%}"
        table.add_row(name, written, AIMS.get(name, ""), MEANINGS[name])
    return table
