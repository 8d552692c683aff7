"""The record of each request's results, in metrics, spans and the watch of runs, without any text."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from medreward.errors import Problem, ProblemKind
from medreward.http.intake import JudgeJob, RewardJob
from medreward.pipeline import Trace
from medreward.recipes.recipe import to_unit
from medreward.rewards.grade import Grade, Ungraded
from medreward.rewards.reward import Reward, Unscored
from medreward.runs.observe import observed
from medreward.telemetry.histogram import Observation, observe_all
from medreward.telemetry.metrics import Metrics
from medreward.telemetry.tracing import record_evaluations

LONGEST_MARGIN = 20.0
"""Log odds are clipped to this, about 5e8 to one: P = 1 has no finite logarithm."""


async def record_rewards(job: RewardJob, results: Sequence[Reward | Unscored]) -> None:
    """Record the rewards of one request, and the step of its run if it names one."""
    service, recipe = job.service, job.recipe
    metrics = service.metrics
    observations: list[Observation] = []
    for name in recipe.weights:
        values = [r.components[name].signal.value for r in results if name in r.components]
        # A sum that falls would be taken for that of a process started anew.
        mapped = [to_unit(value, recipe.signal_ranges[name]) for value in values]
        observations.append((metrics.components, (recipe.name, name), mapped))
        if name == "accuracy_llm":
            says_no = values.count(0.0)
            metrics.verdicts["yes"].inc(len(values) - says_no)
            metrics.verdicts["no"].inc(says_no)
            margins = [_log_odds(p_yes) for p_yes in _judge_probabilities(results)]
            observations.append((metrics.margins, (recipe.name,), margins))
    rewards = [recipe.to_unit(result.total) for result in results if isinstance(result, Reward)]
    observations.append((metrics.rewards, (recipe.name,), rewards))
    metrics.samples["scored"].inc(len(rewards))
    if len(rewards) < len(results):
        problems = (result.problem for result in results if isinstance(result, Unscored))
        _count_problems(metrics, "unscored", problems)
    spent = _spent(job.trace)
    observe_all([*observations, *_stages(metrics, spent)])
    record_evaluations(recipe.name, len(results), map(_evaluation_of, results), spent)
    if job.run is not None:
        seen = observed(job.samples, results, recipe.to_unit)
        observe = partial(service.runs.observe, job.run, job.step, seen)
        await service.offload.run(observe, len(results))


def record_grades(job: JudgeJob, results: Sequence[Grade | Ungraded]) -> None:
    """Record the grades of one request."""
    metrics = job.service.metrics
    verdicts = Counter(result.verdict for result in results if isinstance(result, Grade))
    metrics.samples["judged"].inc(verdicts.total())
    for verdict, number in verdicts.items():
        if verdict is not None:
            metrics.verdicts[verdict.lower()].inc(number)
    _count_problems(metrics, "unjudged", (r.problem for r in results if isinstance(r, Ungraded)))
    spent = _spent(job.trace)
    observe_all(_stages(metrics, spent))
    record_evaluations(job.template.name, len(results), map(_evaluation_of, results), spent)


def _judge_probabilities(results: Sequence[Reward | Unscored]) -> Iterable[float]:
    """Yield each P(YES) of a judge, including cached ones; a rule's decision has none."""
    for result in results:
        part = result.components.get("accuracy_llm")
        if part is not None and part.signal.p_yes is not None:
            yield part.signal.p_yes


def _evaluation_of(result: Reward | Unscored | Grade | Ungraded) -> Mapping[str, str | float]:
    """Return OpenTelemetry's evaluation attributes of a result; an unscored one has no score, not 0."""
    match result:
        case Reward():
            return {"score.value": result.total}
        case Grade():
            label = {} if result.verdict is None else {"score.label": result.verdict}
            return {"score.value": result.score, **label}
        case _:
            return {"error.type": str(result.problem.kind)}


def _count_problems(metrics: Metrics, status: str, problems: Iterable[Problem]) -> None:
    for kind, number in Counter(problem.kind for problem in problems).items():
        metrics.samples[status].inc(number)
        metrics.unscored[kind].inc(number)
        if kind is ProblemKind.JUDGE_UNPARSEABLE:
            metrics.verdicts["unparseable"].inc(number)
        elif kind.startswith("judge_"):
            metrics.verdicts["error"].inc(number)


def _spent(trace: Trace) -> dict[str, float]:
    """Return the seconds of the stages that the request reached; cache hits reach no engine."""
    return {stage: seconds for stage, seconds in trace.seconds.items() if seconds}


def _stages(metrics: Metrics, spent: Mapping[str, float]) -> Iterable[Observation]:
    return [(metrics.stage_seconds, (stage,), (seconds,)) for stage, seconds in spent.items()]


def _log_odds(share: float) -> float:
    """Return ln(p / (1 - p)), clipped to `LONGEST_MARGIN` on both sides."""
    if share <= 0.0 or share >= 1.0:
        return math.copysign(LONGEST_MARGIN, share - 0.5)
    return max(-LONGEST_MARGIN, min(LONGEST_MARGIN, math.log(share / (1.0 - share))))
