"""Fitting a readout: labelled pairs, the states of a language model, a linear classifier."""

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression, Ridge
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
LEAST_OF_EACH = {"verdict": 100, "grade": 20}
"""Right and wrong answers, or reports of each grade, at least."""
GRADE_STRENGTHS = (1e3, 3e3, 1e4, 3e4)
"""Strengths of the ridge of grades, of which there are fewer."""


class Pair(NamedTuple):
    """A labelled answer."""

    question: str | None
    reference: str
    answer: str
    value: int
    """1 of a right and 0 of a wrong answer, or the grade of a report."""
    group: str
    """Pairs of one group are fitted and measured together, so none is known from its neighbour."""


Regress = Callable[[Floats, Any, float], tuple[Floats, float]]
"""Fits a linear model of a strength; returns its weights and its bias."""


class Fitted(NamedTuple):
    """A readout, and the scores of pairs by readouts that were fitted without their group."""

    readout: Readout
    scores_N: Floats
    """P(YES), or the expected grade."""
    strength: float


def read_pairs(file: Path, split: str, template: Template) -> list[Pair]:
    """Read the labelled answers of a split.

    A line has `reference`, `answer`, and `label` (right or wrong), or `grade` for a template of
    grades; it may have `question`, `split` and `family`. A line without a split belongs to `tuning`.

    Raises:
        SetupError: the file cannot be read, or a line is not such an object.
    """
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise SetupError(f"{file}: cannot be read ({type(exc).__name__})") from exc
    is_graded = template.kind == "grade"
    values = (
        {int(label): int(label) for label in template.labels}
        if is_graded
        else {"right": 1, "wrong": 0}
    )
    field = "grade" if is_graded else "label"
    pairs: list[Pair] = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            if row.get("split", "tuning") == split and row.get("answer") is not None:
                pairs.append(_pair(row, values[row[field]], is_graded=is_graded))
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            said = " or ".join(map(str, values))
            raise SetupError(
                f"{file}, line {number}: not an object with `reference`, `answer` and `{field}` "
                f"({said})"
            ) from exc
    return pairs


def _pair(row: dict[str, Any], value: int, *, is_graded: bool) -> Pair:
    reference, question = row["reference"], row.get("question")
    first: str = reference if isinstance(reference, str) else reference[0]
    # Many reports answer one question, such as for the impression of a radiograph.
    asked = first if is_graded else question
    return Pair(question, first, row["answer"], value, row.get("family") or asked or first)


def term_pairs(count: int, seed: int) -> list[Pair]:
    """Draw pairs of medical terms in carriers, behind questions and denied, of every kind alike."""
    kinds = len(Mixture.__dataclass_fields__)
    each = -(-count // kinds)
    drawn = epoch(seed, Mixture(**dict.fromkeys(Mixture.__dataclass_fields__, each)))
    pairs: list[Pair] = []
    for example in drawn[:count]:
        question, _, reference = example.reference.rpartition("\n")
        pairs.append(
            Pair(question or None, reference, example.answer, int(example.equivalent), reference)
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


def check_labels(pairs: Sequence[Pair], template: Template) -> None:
    """Refuse too few labels, before an hour is spent on them.

    Raises:
        SetupError: there are too few, or too few of one kind.
    """
    is_graded = template.kind == "grade"
    values = (
        {int(label): label for label in template.labels} if is_graded else {1: "right", 0: "wrong"}
    )
    counts = Counter(pair.value for pair in pairs)
    least = LEAST_OF_EACH[template.kind]
    if any(counts[value] < least for value in values):
        told = ", ".join(f"{counts[value]} of {name}" for value, name in values.items())
        raise SetupError(f"a readout needs {least} labels of each kind; there are {told}")
    if (groups := len({pair.group for pair in pairs})) < FOLDS:
        raise SetupError(
            f"a readout needs answers to {FOLDS} questions, or references; there are {groups}"
        )


def fit(states_ND: Floats, pairs: Sequence[Pair], template: Template, layers: int) -> Fitted:
    """Fit a readout, with the ridge and the threshold that cross-fitted scores choose."""
    fit_labels = _fit_grades if template.kind == "grade" else _fit_verdicts
    return fit_labels(states_ND, pairs, template, layers)


def _fit_verdicts(
    states_ND: Floats, pairs: Sequence[Pair], template: Template, layers: int
) -> Fitted:
    is_right = np.array([pair.value == 1 for pair in pairs], dtype=np.bool_)
    groups = _groups(pairs)
    crossed = {c: _cross_fitted(_logistic, states_ND, is_right, groups, c) for c in STRENGTHS}
    strength = min(crossed, key=lambda c: _loss(crossed[c], is_right))
    scores_N = crossed[strength]
    scale = fit_scale(sigmoid(scores_N), is_right)
    weights_D, bias = _logistic(states_ND, is_right, strength)
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


def _fit_grades(
    states_ND: Floats, pairs: Sequence[Pair], template: Template, layers: int
) -> Fitted:
    """Fit a line through the grades; the probability of a grade is that of its distance from it.

    With normal errors of variance v, log p of grade k is k y/v - k²/2v and a constant, which is
    linear in the state as y is.
    """
    grades_K = np.array([int(label) for label in template.labels], dtype=np.float64)
    values_N = np.array([pair.value for pair in pairs], dtype=np.float64)
    groups = _groups(pairs)
    crossed = {c: _cross_fitted(_ridge, states_ND, values_N, groups, c) for c in GRADE_STRENGTHS}
    strength = min(crossed, key=lambda c: float(np.square(crossed[c] - values_N).mean()))
    # A ridge pulls towards the mean; the cross-fitted values tell by how much.
    slope, shift = np.polyfit(crossed[strength], values_N, 1)
    line_N = slope * crossed[strength] + shift
    variance = float(np.square(line_N - values_N).mean())
    weights_D, bias = _ridge(states_ND, values_N, strength)
    readout = Readout(
        template.name,
        template.sha,
        layers,
        weights_KD=torch.from_numpy(np.outer(grades_K, slope * weights_D) / variance).float(),
        biases_K=torch.from_numpy(
            (grades_K * (slope * bias + shift) - grades_K**2 / 2) / variance
        ).float(),
    )
    logits_NK = (np.outer(line_N, grades_K) - grades_K**2 / 2) / variance
    return Fitted(readout, softmax(logits_NK, axis=1) @ grades_K, strength)


def _groups(pairs: Sequence[Pair]) -> Any:
    return np.unique([pair.group for pair in pairs], return_inverse=True)[1]


def _cross_fitted(
    regress: Regress, states_ND: Floats, values_N: Any, groups: Any, strength: float
) -> Floats:
    scores_N = np.zeros(len(values_N))
    for others, own in GroupKFold(FOLDS).split(states_ND, values_N, groups):
        weights_D, bias = regress(states_ND[others], values_N[others], strength)
        scores_N[own] = states_ND[own] @ weights_D + bias
    return scores_N


def _logistic(states_ND: Floats, is_right: Truths, strength: float) -> tuple[Floats, float]:
    return _standardised(LogisticRegression(C=strength, max_iter=500), states_ND, is_right)


def _ridge(states_ND: Floats, values_N: Floats, strength: float) -> tuple[Floats, float]:
    return _standardised(Ridge(alpha=strength), states_ND, values_N)


def _standardised(model: Any, states_ND: Floats, values_N: Any) -> tuple[Floats, float]:
    """Fit a linear model on standardised states; returns its weights on the states as they are."""
    mean_D, spread_D = states_ND.mean(axis=0), states_ND.std(axis=0) + 1e-6
    model.fit((states_ND - mean_D) / spread_D, values_N)
    # A classifier has one row of weights, a regression no rows.
    weights_D: Floats = np.ravel(model.coef_) / spread_D
    return weights_D, float(np.ravel(model.intercept_)[0] - weights_D @ mean_D)


def _loss(scores_N: Floats, is_right: Truths) -> float:
    return float(np.logaddexp(0, np.where(is_right, -scores_N, scores_N)).mean())


def rightly_ordered(pairs: Sequence[Pair], scores_N: Floats) -> float:
    """Return the share of answers of one group and unequal grades that are in order; a tie is half one.

    It is not a number if there are no such answers.
    """
    values_N, groups = np.array([pair.value for pair in pairs]), _groups(pairs)
    is_compared = (groups[:, None] == groups) & (values_N[:, None] > values_N)
    ahead = np.sign(scores_N[:, None] - scores_N)[is_compared]
    return float((ahead.mean() + 1) / 2)
