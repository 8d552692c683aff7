"""Metrics of a step's rollouts and rewards."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean

import torch
from torch import Tensor

from medreward_trainer.rollouts.rollout import Group, Score
from medreward_trainer.update.advantages import Groups
from medreward_trainer.update.filtering import no_variance


def describe(
    groups: Sequence[Group], shaped: Groups, *, drawn: int, signals: Iterable[str]
) -> dict[str, float]:
    """Return the metrics of the groups of a step; *drawn* counts those that were dropped as well.

    `signals` are those of the recipe. Means are over scored samples only: an unscored sample is
    counted, but never as a zero.
    """
    scores = [score for group in groups for score in group.scores]
    alike_P = no_variance(shaped.rewards_PG, shaped.scored_PG)
    return {
        **score_figures(scores, signals),
        "reward/group_std": _group_std(shaped.rewards_PG, shaped.scored_PG),
        **{
            f"reward/{name}/group_std": _group_std(values_PG, shaped.scored_PG)
            for name, values_PG in shaped.components.items()
        },
        "groups/zero_variance_share": float(alike_P.float().mean()),
        "groups/generated": float(drawn),
        "groups/filtered_share": 1 - len(groups) / drawn,
        **length_figures(groups),
    }


def score_figures(scores: Sequence[Score], signals: Iterable[str]) -> dict[str, float]:
    """Return the means of rewards and components, and the numbers of samples without a reward.

    A component's mean is over the scored samples that have it. Its `unscored_share` is that of the
    samples without a reward that lack it, and `unscored` their numbers by the kind of the error.
    """
    kinds = Counter(score.error for score in scores if score.error is not None)
    figures = {f"unscored/{kind}": float(count) for kind, count in kinds.items()}
    figures["unscored/share"] = kinds.total() / len(scores)
    values: defaultdict[str, list[float]] = defaultdict(list)
    for score in scores:
        if score.reward is not None:
            values["reward/mean"].append(score.reward)
            for name, value in score.components.items():
                values[f"reward/{name}/mean"].append(value)
        if score.unanswered is not None:
            values["criteria/unanswered"].append(score.unanswered)
    for name in sorted({*signals, *(name for score in scores for name in score.components)}):
        lacking = Counter(
            score.error for score in scores if score.error and name not in score.components
        )
        figures[f"reward/{name}/unscored_share"] = lacking.total() / len(scores)
        for kind, count in lacking.items():
            figures[f"reward/{name}/unscored/{kind}"] = float(count)
    return {**{name: fmean(of_samples) for name, of_samples in values.items()}, **figures}


def length_figures(groups: Sequence[Group]) -> dict[str, float]:
    """Return lengths in tokens, and the share of responses cut at the maximum."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    lengths = [len(rollout.tokens) for rollout in rollouts]
    return {
        "response_length/mean": fmean(lengths),
        "response_length/max": float(max(lengths)),
        "response_length/min": float(min(lengths)),
        "response_length/cut_share": fmean(rollout.is_cut for rollout in rollouts),
        "prompt_length/mean": fmean(group.prompt.length for group in groups),
    }


def _group_std(values_PG: Tensor, scored_PG: Tensor) -> float:
    """Return the mean over groups of the deviation among scored samples; 0 without any."""
    deviations = [
        float(values_G[scored_G].std())
        for values_G, scored_G in zip(values_PG, scored_PG, strict=True)
        if int(scored_G.sum()) > 1
    ]
    return float(torch.tensor(deviations).mean()) if deviations else 0.0
