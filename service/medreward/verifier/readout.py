"""Fitting a readout: labelled pairs, the states of a language model, a linear classifier."""

import json
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from medreward.audit.figures import Floats, Truths
from medreward.audit.fit import fit_scale, sigmoid
from medreward.engines.judge import Inquiry, View
from medreward.engines.judges.causal_lm import CausalLmJudge
from medreward.engines.local.readout import Readout
from medreward.engines.templates import Template
from medreward.errors import SetupError
from medreward.verifier.examples import Mixture, epoch

FOLDS = 5
STRENGTHS = (1e-3, 3e-3, 1e-2)
"""Inverse strengths of the ridge: a state has as many dimensions as there are labels."""
MOST_WRONG = 0.08
"""Share of the wrong answers above the threshold."""
OTHER_VIEWS = {View.WITHOUT_QUESTION: 0.15, View.SWAPPED: 0.1}
"""Shares of the pairs that are shown in another view, since a judge is asked in all of them."""
LEAST_LABELS = 200


class Pair(NamedTuple):
    """A labelled answer."""

    question: str | None
    reference: str
    answer: str
    is_right: bool
    group: str
    """Pairs of one group are fitted and measured together, so none is known from its neighbour."""


class Fitted(NamedTuple):
    """A readout, and the scores of pairs by readouts that were fitted without their group."""

    readout: Readout
    scores_N: Floats
    strength: float


def read_pairs(file: Path, split: str) -> list[Pair]:
    """Read the labelled answers of a split.

    A line has `reference`, `answer`, and `label` (right or wrong); it may have `question`, `split`
    and `family`. A line without a split belongs to `tuning`.

    Raises:
        SetupError: the file cannot be read, or a line is not such an object.
    """
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise SetupError(f"{file}: cannot be read ({type(exc).__name__})") from exc
    pairs: list[Pair] = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            if row.get("split", "tuning") == split and row.get("answer") is not None:
                pairs.append(_pair(row))
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise SetupError(
                f"{file}, line {number}: not an object with `reference`, `answer` and `label` "
                "(right or wrong)"
            ) from exc
    return pairs


def _pair(row: dict[str, Any]) -> Pair:
    is_right = {"right": True, "wrong": False}[row["label"]]
    reference, question = row["reference"], row.get("question")
    first: str = reference if isinstance(reference, str) else reference[0]
    return Pair(question, first, row["answer"], is_right, row.get("family") or question or first)


def term_pairs(count: int, seed: int) -> list[Pair]:
    """Draw pairs of medical terms in carriers, behind questions and denied, of every kind alike."""
    kinds = len(Mixture.__dataclass_fields__)
    each = -(-count // kinds)
    drawn = epoch(seed, Mixture(**dict.fromkeys(Mixture.__dataclass_fields__, each)))
    pairs: list[Pair] = []
    for example in drawn[:count]:
        question, _, reference = example.reference.rpartition("\n")
        pairs.append(
            Pair(question or None, reference, example.answer, example.equivalent, reference)
        )
    return pairs


def inquiries_of(pairs: Sequence[Pair], template: Template, rng: random.Random) -> list[Inquiry]:
    """Put each pair as an inquiry, some in the other views."""
    views = rng.choices(
        [View.AS_WRITTEN, *OTHER_VIEWS],
        weights=[1 - sum(OTHER_VIEWS.values()), *OTHER_VIEWS.values()],
        k=len(pairs),
    )
    return [
        Inquiry(template, pair.answer, pair.reference, pair.question, view=view)
        for pair, view in zip(pairs, views, strict=True)
    ]


def load_judge(source: Path, name: str, secret: str) -> CausalLmJudge:
    """Load a language model as a judge without readouts."""
    return CausalLmJudge.load(
        source, name=name, dtype="float32", secret=secret, worker=ThreadPoolExecutor(1)
    )


def states_of(
    judge: CausalLmJudge, inquiries: Sequence[Inquiry], layers: int, advance: Callable[[int], None]
) -> Floats:
    """Return the state of each inquiry at the verdict position, of shape (N, D)."""
    states: dict[int, np.ndarray] = {}
    for place, state_D in judge.states(inquiries, layers):
        states[place] = state_D.numpy()
        advance(1)
    return np.stack([states[place] for place in range(len(inquiries))]).astype(np.float64)


def fit(states_ND: Floats, pairs: Sequence[Pair], template: Template, layers: int) -> Fitted:
    """Fit a readout, with the ridge and the threshold that cross-fitted scores choose.

    Raises:
        SetupError: there are too few labels, or of one kind alone.
    """
    is_right = np.array([pair.is_right for pair in pairs], dtype=np.bool_)
    if min(is_right.sum(), (~is_right).sum()) < LEAST_LABELS // 2:
        raise SetupError(
            f"a readout needs {LEAST_LABELS // 2} right and as many wrong answers; there are "
            f"{is_right.sum()} and {(~is_right).sum()}"
        )
    groups = np.unique([pair.group for pair in pairs], return_inverse=True)[1]
    crossed = {c: _cross_fitted(states_ND, is_right, groups, c) for c in STRENGTHS}
    strength = min(crossed, key=lambda c: _loss(crossed[c], is_right))
    scores_N = crossed[strength]
    scale = fit_scale(sigmoid(scores_N), is_right)
    weights_D, bias = _regress(states_ND, is_right, strength)
    # The scale makes a probability of the score: it becomes part of the readout's own numbers.
    yes_D = torch.from_numpy(weights_D / scale.temperature).float()
    p_N = scale.of(sigmoid(scores_N))
    readout = Readout(
        template.name,
        template.sha,
        layers,
        weights_KD=torch.stack([yes_D, torch.zeros_like(yes_D)]),
        biases_K=torch.tensor([bias / scale.temperature + scale.bias, 0.0]),
        threshold=float(np.quantile(p_N[~is_right], 1 - MOST_WRONG)),
    )
    return Fitted(readout, p_N, strength)


def _cross_fitted(states_ND: Floats, is_right: Truths, groups: Any, strength: float) -> Floats:
    scores_N = np.zeros(len(is_right))
    for others, own in GroupKFold(FOLDS).split(states_ND, is_right, groups):
        weights_D, bias = _regress(states_ND[others], is_right[others], strength)
        scores_N[own] = states_ND[own] @ weights_D + bias
    return scores_N


def _regress(states_ND: Floats, is_right: Truths, strength: float) -> tuple[Floats, float]:
    """Fit a logistic regression on standardised states; returns its weights on the states as they are."""
    mean_D, spread_D = states_ND.mean(axis=0), states_ND.std(axis=0) + 1e-6
    model = LogisticRegression(C=strength, max_iter=500)
    model.fit((states_ND - mean_D) / spread_D, is_right)
    weights_D = model.coef_[0] / spread_D
    return weights_D, float(model.intercept_[0] - weights_D @ mean_D)


def _loss(scores_N: Floats, is_right: Truths) -> float:
    return float(np.logaddexp(0, np.where(is_right, -scores_N, scores_N)).mean())
