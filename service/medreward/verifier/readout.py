"""Fitting a readout: labelled answers, the states of a language model, a linear classifier."""

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import f1_score
from sklearn.model_selection import GroupKFold

from medreward.audit.figures import Floats, Truths
from medreward.audit.fit import fit_scale, sigmoid
from medreward.engines.judge import CANNOT_ASSESS, Inquiry, View
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
LEAST_OF_EACH = {"verdict": 100, "grade": 20, "criterion": 50}
"""Right and wrong answers, reports of each grade, or criteria of each label, at least."""
TEMPERATURES = (0.2, 5.0)
"""Bounds of the temperature that a fit of criteria may find."""
GRADE_STRENGTHS = (1e3, 3e3, 1e4, 3e4)
"""Strengths of the ridge of grades, of which there are fewer."""


class Pair(NamedTuple):
    """A labelled answer."""

    question: str | None
    reference: str | None
    answer: str
    value: int
    """1 of a right and 0 of a wrong answer, the grade of a report, or the place of a criterion's label
    among those of the template."""
    group: str
    """Pairs of one group are fitted and measured together, so none is known from its neighbour."""
    criterion: str | None = None


class Labels(NamedTuple):
    """How the lines of a file are labelled for a template."""

    kind: Literal["verdict", "grade", "criterion"]
    field: str
    values: Mapping[Any, int]
    """What a line may say, and the value of the pair."""


Regress = Callable[[Floats, Any, float], tuple[Floats, Any]]
"""Fits a linear model of a strength; returns its weights and its bias, or a row of them a label."""


class Fitted(NamedTuple):
    """A readout, and the scores of pairs by readouts that were fitted without their group."""

    readout: Readout
    scores_N: Floats
    """P(YES), the expected grade, or for criteria the probability of each label, of shape (N, K)."""
    strength: float


def read_pairs(file: Path, split: str, template: Template) -> list[Pair]:
    """Read the labelled answers of a split.

    A line has `reference`, `answer`, and `label` (right or wrong); for a template of grades `grade`;
    for one about criteria `criterion` instead of the reference, and as `label` one of the template's.
    It may have `question`, `split` and `family`. A line without a split belongs to `tuning`.

    Raises:
        SetupError: the file cannot be read, or a line is not such an object.
    """
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise SetupError(f"{file}: cannot be read ({type(exc).__name__})") from exc
    labels = labels_of(template)
    pairs: list[Pair] = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            if row.get("split", "tuning") == split and row.get("answer") is not None:
                pairs.append(_pair(row, labels))
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            said = " or ".join(map(str, labels.values))
            about = "criterion" if labels.kind == "criterion" else "reference"
            raise SetupError(
                f"{file}, line {number}: not an object with `{about}`, `answer` and "
                f"`{labels.field}` ({said})"
            ) from exc
    return pairs


def labels_of(template: Template) -> Labels:
    """Return how lines are labelled for a template."""
    if template.kind == "grade":
        return Labels("grade", "grade", {int(label): int(label) for label in template.labels})
    if CANNOT_ASSESS in template.labels:
        return Labels("criterion", "label", {label: n for n, label in enumerate(template.labels)})
    return Labels("verdict", "label", {"right": 1, "wrong": 0})


def _pair(row: dict[str, Any], labels: Labels) -> Pair:
    value, question = labels.values[row[labels.field]], row.get("question")
    if labels.kind == "criterion":
        criterion, answer = row["criterion"], row["answer"]
        return Pair(
            question, None, answer, value, row.get("family") or question or answer, criterion
        )
    reference = row["reference"]
    first: str = reference if isinstance(reference, str) else reference[0]
    # Many reports answer one question, such as for the impression of a radiograph.
    asked = first if labels.kind == "grade" else question
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
    """Put each pair as an inquiry, some in the other views; criteria are asked about in one view."""
    if labels_of(template).kind == "criterion":
        return [inquiry_of(pair, template) for pair in pairs]
    views = rng.choices(
        [View.AS_WRITTEN, *OTHER_VIEWS],
        weights=[1 - sum(OTHER_VIEWS.values()), *OTHER_VIEWS.values()],
        k=len(pairs),
    )
    return [
        inquiry_of(pair, template)._replace(view=view)
        for pair, view in zip(pairs, views, strict=True)
    ]


def inquiry_of(pair: Pair, template: Template) -> Inquiry:
    """Put a pair as an inquiry, as written."""
    return Inquiry(template, pair.answer, pair.reference, pair.question, pair.criterion)


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
    labels = labels_of(template)
    counts = Counter(pair.value for pair in pairs)
    least = LEAST_OF_EACH[labels.kind]
    if any(counts[value] < least for value in labels.values.values()):
        told = ", ".join(f"{counts[value]} of {name}" for name, value in labels.values.items())
        raise SetupError(f"a readout needs {least} labels of each kind; there are {told}")
    if (groups := len({pair.group for pair in pairs})) < FOLDS:
        raise SetupError(
            f"a readout needs answers to {FOLDS} questions, or references; there are {groups}"
        )


def fit(states_ND: Floats, pairs: Sequence[Pair], template: Template, layers: int) -> Fitted:
    """Fit a readout, with the ridge and the threshold that cross-fitted scores choose."""
    fits = {"verdict": _fit_verdicts, "grade": _fit_grades, "criterion": _fit_criteria}
    return fits[labels_of(template).kind](states_ND, pairs, template, layers)


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


def _fit_criteria(
    states_ND: Floats, pairs: Sequence[Pair], template: Template, layers: int
) -> Fitted:
    """Fit one row a label, and the threshold of the best macro F1 between YES and NO.

    That is the measure by which HealthBench compares graders with physicians (Arora et al.,
    arXiv 2505.08775, section 8).
    """
    places_N = np.array([pair.value for pair in pairs])
    groups = _groups(pairs)
    crossed = {c: _cross_fitted(_logistic, states_ND, places_N, groups, c) for c in STRENGTHS}
    strength = min(crossed, key=lambda c: _surprise(crossed[c], places_N))
    scores_NK = crossed[strength]
    # Scores on unseen questions are less certain than a model is of what it was fitted on.
    found = minimize_scalar(
        lambda t: _surprise(scores_NK / t, places_N), bounds=TEMPERATURES, method="bounded"
    )
    temperature = float(found.x)
    weights_KD, biases_K = _logistic(states_ND, places_N, strength)
    shares_NK = softmax(scores_NK / temperature, axis=1)
    yes, no = (template.labels.index(label) for label in ("YES", "NO"))
    is_told = np.isin(places_N, [yes, no])
    p_yes_N = (shares_NK[:, yes] / (shares_NK[:, yes] + shares_NK[:, no]))[is_told]
    readout = Readout(
        template.name,
        template.sha,
        layers,
        weights_KD=torch.from_numpy(weights_KD / temperature).float(),
        biases_K=torch.from_numpy(biases_K / temperature).float(),
        threshold=_best_threshold(p_yes_N, places_N[is_told] == yes),
    )
    return Fitted(readout, shares_NK, strength)


def _surprise(scores_NK: Floats, places_N: Any) -> float:
    return float(-log_softmax(scores_NK, axis=1)[np.arange(len(places_N)), places_N].mean())


def _best_threshold(p_N: Floats, is_yes: Truths) -> float:
    """Return the threshold of the best macro F1; the middle one of equals."""
    candidates = np.linspace(0.05, 0.95, 91)
    scores = np.array([f1_score(is_yes, p_N > t, average="macro") for t in candidates])
    return float(np.median(candidates[scores == scores.max()]))


def _groups(pairs: Sequence[Pair]) -> Any:
    return np.unique([pair.group for pair in pairs], return_inverse=True)[1]


def _cross_fitted(
    regress: Regress, states_ND: Floats, values_N: Any, groups: Any, strength: float
) -> Floats:
    scores: list[Any] = [0.0] * len(values_N)
    for others, own in GroupKFold(FOLDS).split(states_ND, values_N, groups):
        weights, bias = regress(states_ND[others], values_N[others], strength)
        for place, score in zip(own, states_ND[own] @ weights.T + bias, strict=True):
            scores[place] = score
    return np.array(scores)


def _logistic(states_ND: Floats, labels_N: Any, strength: float) -> tuple[Floats, Any]:
    return _standardised(LogisticRegression(C=strength, max_iter=500), states_ND, labels_N)


def _ridge(states_ND: Floats, values_N: Floats, strength: float) -> tuple[Floats, Any]:
    return _standardised(Ridge(alpha=strength), states_ND, values_N)


def _standardised(model: Any, states_ND: Floats, values_N: Any) -> tuple[Floats, Any]:
    """Fit a linear model on standardised states; returns its weights on the states as they are."""
    mean_D, spread_D = states_ND.mean(axis=0), states_ND.std(axis=0) + 1e-6
    model.fit((states_ND - mean_D) / spread_D, values_N)
    # A regression has no rows of weights, a classifier of two labels one, and of more one a label.
    weights: Floats = np.squeeze(model.coef_) / spread_D
    return weights, np.squeeze(model.intercept_) - weights @ mean_D


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
