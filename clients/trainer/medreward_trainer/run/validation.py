"""Validation: greedy responses to held-out prompts, scored by /reward and judged by /judge."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from statistics import fmean

import torch

from medreward_client import Item, Judged, Unjudged
from medreward_trainer.data.examples import references_of
from medreward_trainer.rollouts.rollout import Group
from medreward_trainer.run.figures import length_figures, score_figures
from medreward_trainer.run.run import Run, records_of
from medreward_trainer.run.timing import StageTimes
from medreward_trainer.scoring import answer_of

JUDGED_AT_ONCE = 256

Judgement = Judged | Unjudged | None
"""The judge's result for a response; None for one that is not sent."""


def validate(run: Run) -> None:
    """Log the policy's metrics on the held-out prompts; do nothing without any.

    Raises:
        TrainerError: rewards or judgements are unavailable.
    """
    if not run.validation_prompts:
        return
    # Validation draws random numbers, and must not change those of the training.
    devices = range(torch.cuda.device_count())
    with run.saved_on_trouble(), torch.random.fork_rng(devices=devices):
        times = StageTimes()
        with times.stage("validation"):
            answers = run.gather(lambda: answered(run))
        metrics = {**figures_of(answers, run.rewards.weights), **times.metrics()}
        groups = [group for group, _ in answers]
        few = run.config.trainer.log_val_generations
        records = [record for group in groups[:few] for record in records_of(group)]
        run.log.write("val", run.progress.step, metrics, records)


def answered(run: Run) -> list[tuple[Group, Judgement]]:
    """Respond to this process's share of the held-out prompts; score and judge the responses."""
    prompts = run.policy.share(run.validation_prompts)
    how, size = run.config.actor_rollout_ref.rollout.val_kwargs, run.config.data.val_batch_size
    batches = (prompts[start : start + size] for start in range(0, len(prompts), size))
    groups, pending = [], []
    for group in chain.from_iterable(run.sampler.groups(b, n=1, how=how) for b in batches):
        groups.append(group)
        pending.append(run.rewards.submit(group, step=None))
        run.log.stage("validation", len(groups), len(prompts))
        run.check_stop()
    judged = judge(run, groups)
    scores = run.rewards.collect(pending)
    scored = [replace(group, scores=tuple(row)) for group, row in zip(groups, scores, strict=True)]
    return list(zip(scored, judged, strict=True))


def judge(run: Run, groups: Sequence[Group]) -> list[Judgement]:
    """Judge the content of each response's answer tags; None for one without any, or a reference."""
    examples = [one.prompt.example for one in groups]
    found = [
        answer_of(one.rollouts[0].text) if example.reference else None
        for one, example in zip(groups, examples, strict=True)
    ]
    asked = [
        # /judge takes one reference; the first of several stands for them.
        Item(answer, references_of(example)[0], question=example.problem)
        for example, answer in zip(examples, found, strict=True)
        if answer is not None
    ]
    results: list[Judged | Unjudged] = []
    for start in range(0, len(asked), JUDGED_AT_ONCE):
        results += run.rewards.judge(asked[start : start + JUDGED_AT_ONCE])
        run.check_stop()
    following = iter(results)
    return [None if answer is None else next(following) for answer in found]


def figures_of(
    answers: Sequence[tuple[Group, Judgement]], signals: Iterable[str]
) -> dict[str, float]:
    """Return the metrics of a validation; `signals` are those of the recipe.

    A response without an answer is wrong. One that the judge failed on is neither right nor wrong,
    and has a metric of its own. Examples without a reference, which have a rubric, are not judged.
    """
    groups = [group for group, _ in answers]
    judged = [one for group, one in answers if group.prompt.example.reference]
    settled = [0.0 if one is None else one.score for one in judged if not isinstance(one, Unjudged)]
    figures = {
        **score_figures([group.scores[0] for group in groups], signals),
        "response_length/mean": length_figures(groups)["response_length/mean"],
    }
    if judged:
        figures["answered"] = fmean(one is not None for one in judged)
        figures["unjudged"] = fmean(isinstance(one, Unjudged) for one in judged)
    if settled:
        figures["accuracy"] = fmean(settled)
    return {f"val/{name}": value for name, value in figures.items()}
