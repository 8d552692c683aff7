"""`medreward verifier readout`: labelled answers become a readout of a language model."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.table import Table

from medreward.audit.figures import Floats, area_under_curve
from medreward.cli.environment import read_settings
from medreward.cli.jsonl import check_output
from medreward.cli.tables import plain_table
from medreward.cli.terminal import counting, output, shown, silence_other_bars
from medreward.engines.judge import Inquiry
from medreward.engines.local.readout import Readout, save_readouts
from medreward.engines.models import locate
from medreward.engines.templates import load_templates
from medreward.errors import SetupError
from medreward.verifier.readout import (
    Pair,
    fit,
    inquiries_of,
    load_judge,
    read_pairs,
    states_of,
    term_pairs,
)

TEMPLATE = "equivalence"


def fit_readout(
    files: Sequence[Path], model: str, out: Path, *, layers: int, terms: int, seed: int
) -> None:
    """Fit a readout on the tuning lines of *files* and on terms, measure it, and write it.

    Raises:
        SetupError: a file or the model cannot be read, the model has fewer layers, or there are too
            few labels.
    """
    silence_other_bars()
    check_output("--out", out)
    template = load_templates()[TEMPLATE]
    answers = [pair for file in files for pair in read_pairs(file, "tuning")]
    pairs = [*answers, *term_pairs(terms, seed)]
    held_out = [pair for file in files for pair in read_pairs(file, "testing")]
    # Any secret serves: it moves a state by far less than another wording does.
    judge = load_judge(Path(locate(model, read_settings().models_dir)), model, f"readout {seed}")
    if layers > judge.layers:
        raise SetupError(f"--layers: {model} has {judge.layers} layers; give at most as many")
    rng = random.Random(seed)  # noqa: S311 - reproducible, not secret
    inquiries = [
        *inquiries_of(pairs, template, rng),
        *(Inquiry(template, p.answer, p.reference, p.question) for p in held_out),
    ]
    with counting("reading", len(inquiries)) as advance:
        states_ND = states_of(judge, inquiries, layers, advance)
    fitted = fit(states_ND[: len(pairs)], pairs, template, layers)
    save_readouts(out, [fitted.readout])

    table = plain_table("pairs", "right", "wrong", "AUC", "right, YES", "wrong, YES")
    threshold, at = fitted.readout.threshold, len(answers)
    _add(table, "answers, cross-fitted", answers, fitted.scores_N[:at], threshold)
    _add(table, "terms, cross-fitted", pairs[at:], fitted.scores_N[at:], threshold)
    p_held_out = _p_yes(fitted.readout, states_ND[len(pairs) :])
    _add(table, "answers held out", held_out, p_held_out, threshold)
    output().print(table)
    output().print(shown(f"written to {out}"), soft_wrap=True)


def _p_yes(readout: Readout, states_ND: Floats) -> Floats:
    logits_NK = readout.logits(torch.from_numpy(states_ND))
    return logits_NK.softmax(dim=-1)[:, 0].double().numpy()


def _add(table: Table, name: str, pairs: Sequence[Pair], p_yes: Floats, threshold: float) -> None:
    """Add a row, if there are right and wrong pairs."""
    is_right = np.array([pair.is_right for pair in pairs], dtype=np.bool_)
    if len(set(is_right.tolist())) < 2:  # noqa: PLR2004 - both kinds
        return
    is_yes = p_yes > threshold
    table.add_row(
        name,
        str(is_right.sum()),
        str((~is_right).sum()),
        f"{area_under_curve(p_yes[is_right], p_yes[~is_right]):.3f}",
        f"{is_yes[is_right].mean():.1%}",
        f"{is_yes[~is_right].mean():.1%}",
    )
