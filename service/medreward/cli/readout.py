"""`medreward verifier readout`: labelled answers become a readout of a language model."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.table import Table
from sklearn.metrics import f1_score

from medreward.audit.figures import Floats, area_under_curve
from medreward.cli.environment import read_settings
from medreward.cli.jsonl import check_output
from medreward.cli.tables import plain_table
from medreward.cli.terminal import Misuse, counting, output, shown, silence_other_bars
from medreward.engines.judge import CANNOT_ASSESS, Judgement
from medreward.engines.local.readout import load_readouts, save_readouts
from medreward.engines.models import locate
from medreward.engines.templates import Template, load_templates
from medreward.errors import SetupError
from medreward.verifier.readout import (
    Pair,
    check_labels,
    fit,
    inquiries_of,
    inquiry_of,
    labels_of,
    load_judge,
    read_pairs,
    rightly_ordered,
    states_of,
    term_pairs,
)

READABLE = ("equivalence", "match", "report", "rubric")
"""Templates that a readout can be fitted for."""


def fit_readout(
    files: Sequence[Path],
    model: str,
    out: Path,
    *,
    template: str,
    layers: int,
    terms: int,
    seed: int,
) -> None:
    """Fit a readout on the tuning lines of *files* and on terms, measure it, and write it.

    Raises:
        Misuse: there is no such template.
        SetupError: a file or the model cannot be read, the model has fewer layers, or there are too
            few labels.
    """
    silence_other_bars()
    check_output("--out", out)
    if template not in READABLE:
        raise Misuse(f"--template: {template} is none of {', '.join(READABLE)}")
    asked = load_templates()[template]
    kind = labels_of(asked).kind
    # What the file has for other templates stays.
    kept = [r for r in (load_readouts(out) if out.is_file() else []) if r.template != template]
    answers = [pair for file in files for pair in read_pairs(file, "tuning", asked)]
    pairs = [*answers, *(term_pairs(terms, seed) if kind == "verdict" else [])]
    check_labels(pairs, asked)
    held_out = [pair for file in files for pair in read_pairs(file, "testing", asked)]
    # Any secret serves: it moves a state by far less than another wording does.
    judge = load_judge(Path(locate(model, read_settings().models_dir)), model, f"readout {seed}")
    if layers > judge.layers:
        raise SetupError(f"--layers: {model} has {judge.layers} layers; give at most as many")
    rng = random.Random(seed)  # noqa: S311 - reproducible, not secret
    inquiries = [
        *inquiries_of(pairs, asked, rng),
        *(inquiry_of(pair, asked) for pair in held_out),
    ]
    with counting("reading", len(inquiries)) as advance:
        states_ND = states_of(judge, inquiries, layers, advance)
    fitted = fit(states_ND[: len(pairs)], pairs, asked, layers)
    save_readouts(out, [*kept, fitted.readout])

    logits_NK = fitted.readout.logits(torch.from_numpy(states_ND[len(pairs) :]))
    shares_NK = logits_NK.softmax(dim=-1).double().numpy()
    if kind == "criterion":
        table = _of_criteria(
            asked,
            fitted.readout.threshold,
            ("criteria, cross-fitted", pairs, fitted.scores_N),
            ("criteria held out", held_out, shares_NK),
        )
    elif kind == "grade":
        grades_K = np.array([float(label) for label in asked.labels])
        table = _of_grades(
            ("reports, cross-fitted", pairs, fitted.scores_N),
            ("reports held out", held_out, shares_NK @ grades_K),
        )
    else:
        at = len(answers)
        table = _of_verdicts(
            fitted.readout.threshold,
            ("answers, cross-fitted", answers, fitted.scores_N[:at]),
            ("terms, cross-fitted", pairs[at:], fitted.scores_N[at:]),
            ("answers held out", held_out, shares_NK[:, 0]),
        )
    output().print(table)
    output().print(shown(f"written to {out}"), soft_wrap=True)


Scored = tuple[str, Sequence[Pair], Floats]
"""Labelled answers with a name, and their scores."""


def _of_verdicts(threshold: float, *sets: Scored) -> Table:
    """Tabulate the sets that have right and wrong pairs."""
    table = plain_table("pairs", "right", "wrong", "AUC", "right, YES", "wrong, YES")
    for name, pairs, p_yes in sets:
        is_right = np.array([pair.value == 1 for pair in pairs], dtype=np.bool_)
        if len(set(is_right.tolist())) < 2:  # noqa: PLR2004 - both kinds
            continue
        is_yes = p_yes > threshold
        table.add_row(
            name,
            str(is_right.sum()),
            str((~is_right).sum()),
            f"{area_under_curve(p_yes[is_right], p_yes[~is_right]):.3f}",
            f"{is_yes[is_right].mean():.1%}",
            f"{is_yes[~is_right].mean():.1%}",
        )
    return table


def _of_grades(*sets: Scored) -> Table:
    """Tabulate the sets that are not empty."""
    table = plain_table("reports", "answers", "mean error", "rightly ordered")
    for name, pairs, expected in sets:
        if pairs:
            values = np.array([pair.value for pair in pairs], dtype=np.float64)
            error = f"{np.abs(expected - values).mean():.2f}"
            table.add_row(name, str(len(pairs)), error, f"{rightly_ordered(pairs, expected):.1%}")
    return table


def _of_criteria(template: Template, threshold: float, *sets: Scored) -> Table:
    """Tabulate the sets that are not empty: the share of each label that is told, and macro F1."""
    shares = [f"{label} told" for label in template.labels]
    table = plain_table("criteria", "number", *shares, "NO told YES", "macro F1")
    for name, pairs, shares_NK in sets:
        if not pairs:
            continue
        due = np.array([template.labels[pair.value] for pair in pairs])
        judgements = [
            Judgement(template.labels, tuple(row), threshold=threshold)
            for row in shares_NK.tolist()
        ]
        said = np.array([CANNOT_ASSESS if j.cannot_assess else j.verdict for j in judgements])
        table.add_row(
            name,
            str(len(pairs)),
            *(f"{(said == due)[due == label].mean():.1%}" for label in template.labels),
            f"{(said == 'YES')[due == 'NO'].mean():.1%}",
            f"{f1_score(due, said, average='macro'):.3f}",
        )
    return table
