"""`medreward verifier`: training and measurement of the embedded verifier."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.table import Table

from medreward.cli.environment import read_settings
from medreward.cli.tables import plain_table
from medreward.cli.terminal import Misuse, counting, messages, output, shown, silence_other_bars
from medreward.engines.models import CATALOGUE, folder_of, locate
from medreward.verifier.evaluate import Scores, measure
from medreward.verifier.examples import held_out
from medreward.verifier.package import REPORTING, SIZE, load_scorer, pack, shipped_threshold
from medreward.verifier.train import Plan, Scorer, Step, train

BASE, ENCODER = "medreward-verifier", "all-minilm-l6-v2"
AIMS = {
    "auc": "≥ 0.96",
    "far": "≥ 65 %",
    "sibling": "≤ 8 %",
    "swap": "≤ 1 %",
    "carried_auc": "≥ 0.94",
    "carried_right": "≥ 75 %",
    "carried_wrong": "≤ 8 %",
    "denied_right": "≥ 75 %",
    "denied_wrong": "≤ 8 %",
    "defined_auc": "≥ 0.94",
    "defined_far": "≥ 65 %",
    "defined_sibling": "≤ 8 %",
    "defined_swap": "≤ 1 %",
}
MEANINGS = {
    "threshold": "P(YES) above which the verdict is YES, before calibration",
    "auc": "area under the ROC curve of bare terms, right against wrong",
    "far": "synonyms that share under a quarter of their words: YES",
    "near": "other synonyms: YES",
    "sibling": "terms of the same parent: YES",
    "swap": "left/right, hypo/hyper, increased/decreased and the like: YES",
    "unrelated": "any two terms: YES",
    "carried_auc": "the same area for terms in carriers and for denials",
    "carried_right": "synonyms in a carrier: YES",
    "carried_wrong": "siblings, swaps and others in a carrier: YES",
    "denied_right": "the same finding denied on both sides: YES",
    "denied_wrong": "denied on one side, or another finding: YES",
    "defined_auc": "the same area behind a question with the definition",
    "defined_far": "far synonyms behind it: YES",
    "defined_sibling": "siblings behind it: YES",
    "defined_swap": "swaps behind it: YES",
    "defined_unrelated": "any two terms behind it: YES",
    "abbreviation_auc": "the same area for abbreviations that no training saw",
    "abbreviation_right": "an abbreviation and one of its meanings: YES",
    "abbreviation_wrong": "an abbreviation and the meaning of another: YES",
    "code_auc": "the same area for texts of ICD-10-CM",
    "code_right": "a text in another spelling, order or word: YES",
    "code_wrong": "siblings, and texts that differ by one swap: YES",
    "quantity_auc": "the same area for doses, durations and levels",
    "quantity_right": "the same quantity, written in two ways: YES",
    "quantity_wrong": "another number, unit, frequency, bound or drug: YES",
}


def train_verifier(
    out: Path, plan: Plan, *, base: Path | None, version: str, threads: int | None
) -> None:
    """Train from *base*, or from the installed verifier, choose thresholds, and write a folder.

    Raises:
        Misuse: the base is no classifier, or the folder cannot be made.
        SetupError: the base model, or a package with terms, is missing.
    """
    silence_other_bars()
    if threads is not None:
        torch.set_num_threads(threads)
    models_dir = read_settings().models_dir
    base = base or folder_of(CATALOGUE[BASE], models_dir)
    _check_classifier(base)
    places = (out.absolute(), *out.absolute().parents)
    if (blocked := next(one for one in places if one.exists())).is_file():
        raise Misuse(f"--out: {blocked} is a file; name a folder")
    encoder = Path(locate(ENCODER, models_dir))
    with counting("training", 1000) as advance:
        told = 0

        def watch(step: Step) -> None:
            nonlocal told
            reached = 1000 * step.done // step.total
            advance(reached - told)
            told = reached
            if step.scores is not None:
                messages().print(_line(step, step.scores))

        train(base, encoder, out, plan, watch)
    pack_verifier(out, version=version)


def pack_verifier(folder: Path, *, version: str) -> None:
    """Choose thresholds for trained weights, and write calibration and manifest beside them.

    Raises:
        Misuse: the folder holds no classifier.
    """
    silence_other_bars()
    scores = pack(folder, version, _scorer(folder))
    output().print(_table(scores))
    output().print(shown(f"written to {folder}"), soft_wrap=True)


def measure_verifier(folder: Path | None) -> None:
    """Measure a model folder, or the installed verifier, on terms that decided no threshold.

    Raises:
        Misuse: the folder holds no classifier with its threshold.
    """
    silence_other_bars()
    folder = folder or folder_of(CATALOGUE[BASE], read_settings().models_dir)
    # The model comes first: to read the terms takes longer than to find that it cannot be loaded.
    scorer = _scorer(folder)
    with _loading(folder):
        threshold = shipped_threshold(folder)
    pairs = held_out(size=SIZE, digits=REPORTING)
    output().print(_table(measure(pairs, scorer, threshold)))


def _scorer(folder: Path) -> Scorer:
    _check_classifier(folder)
    with _loading(folder):
        return load_scorer(folder)


def _check_classifier(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise Misuse(f"{folder} holds no model: there is no config.json in it")


@contextmanager
def _loading(folder: Path) -> Iterator[None]:
    """Name the folder in whatever the libraries make of a damaged one."""
    try:
        yield
    except Exception as exc:
        raise Misuse(
            f"{folder} cannot be loaded as a classifier ({type(exc).__name__}); train or fetch it anew"
        ) from exc


def _line(step: Step, scores: Scores) -> str:
    return (
        f"step {step.done} of {step.total}: loss {step.loss:.3f}, AUC {scores.auc:.3f} bare, "
        f"{scores.carried_auc:.3f} in phrases, {scores.defined_auc:.3f} behind definitions, "
        f"far {scores.far:.0%}"
    )


def _table(scores: Scores) -> Table:
    table = plain_table("measure", "value", "aim", "of what")
    for name, value in scores._asdict().items():
        is_share = name != "threshold" and not name.endswith("auc")
        written = f"{value:.1%}" if is_share else f"{value:.4f}"
        table.add_row(name, written, AIMS.get(name, ""), MEANINGS[name])
    return table
