"""What the metrics learn of each request's results: numbers and closed names, never text."""

from collections.abc import Sequence

from medreward.errors import Problem, ProblemKind
from medreward.grading import Grade, Ungraded
from medreward.metrics import Metrics
from medreward.pipeline import Trace
from medreward.recipe import Recipe
from medreward.reward import Reward, Unscored


def observe_rewards(
    metrics: Metrics, recipe: Recipe, results: Sequence[Reward | Unscored], trace: Trace
) -> None:
    """Count and distribute the rewards of one request."""
    for result in results:
        for name, part in result.components.items():
            metrics.observe_component(recipe.name, name, part.signal.value)
        if "accuracy_llm" in result.components:
            says_yes = result.components["accuracy_llm"].signal.value > 0
            metrics.count_verdict("yes" if says_yes else "no")
        if isinstance(result, Reward):
            metrics.observe_score("scored")
            metrics.observe_reward(recipe.name, result.total)
        else:
            _count_unscored(metrics, "unscored", result.problem)
    _observe_stages(metrics, trace)


def observe_grades(metrics: Metrics, results: Sequence[Grade | Ungraded], trace: Trace) -> None:
    """Count the grades of one request."""
    for result in results:
        if isinstance(result, Ungraded):
            _count_unscored(metrics, "unjudged", result.problem)
            continue
        metrics.observe_score("judged")
        if result.verdict is not None:
            metrics.count_verdict(result.verdict.lower())
    _observe_stages(metrics, trace)


def _count_unscored(metrics: Metrics, status: str, problem: Problem) -> None:
    metrics.observe_score(status, problem.kind)
    if problem.kind is ProblemKind.JUDGE_UNPARSEABLE:
        metrics.count_verdict("unparseable")
    elif problem.kind.startswith("judge_"):
        metrics.count_verdict("error")


def _observe_stages(metrics: Metrics, trace: Trace) -> None:
    metrics.observe_stages(
        {
            "queue": max(trace.judge.queue_s, trace.embed.queue_s),
            "cache": trace.judge.cache_s + trace.embed.cache_s,
            "judge": trace.judge.engine_s,
            "embed": trace.embed.engine_s,
            "total": trace.elapsed_s,
        }
    )
