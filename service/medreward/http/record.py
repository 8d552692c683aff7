"""The record of each request's results, in metrics, spans and the watch of runs: never a text."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from medreward.errors import Problem, ProblemKind
from medreward.http.intake import JudgeJob, RewardJob
from medreward.pipeline import Trace
from medreward.rewards.grade import Grade, Ungraded
from medreward.rewards.reward import Reward, Unscored
from medreward.runs.observe import observed
from medreward.telemetry.metrics import Metrics
from medreward.telemetry.tracing import tell_evaluations, tell_stages


async def record_rewards(job: RewardJob, results: Sequence[Reward | Unscored]) -> None:
    """Record the rewards of one request, and what its run did."""
    service, recipe = job.service, job.recipe
    metrics = service.metrics
    for name in recipe.weights:
        values = [r.components[name].signal.value for r in results if name in r.components]
        metrics.observe_component(recipe.name, name, values)
        if name == "accuracy_llm":
            says_yes = len(values) - values.count(0.0)
            metrics.count_verdicts("yes", says_yes)
            metrics.count_verdicts("no", len(values) - says_yes)
            metrics.observe_margins(recipe.name, _said_by_the_judge(results))
    rewards = [result.total for result in results if isinstance(result, Reward)]
    metrics.observe_rewards(recipe.name, rewards)
    metrics.count_scores("scored", len(rewards))
    if len(rewards) < len(results):
        problems = (result.problem for result in results if isinstance(result, Unscored))
        _count_problems(metrics, "unscored", problems)
    tell_evaluations(recipe.name, len(results), map(_evaluation_of, results))
    _observe_stages(metrics, job.trace)
    if job.run is not None:
        seen = observed(job.samples, results)
        observe = partial(service.runs.observe, job.run, job.step, seen)
        await service.pace.do(observe, len(results))


def record_grades(job: JudgeJob, results: Sequence[Grade | Ungraded]) -> None:
    """Record the grades of one request."""
    metrics = job.service.metrics
    verdicts = Counter(result.verdict for result in results if isinstance(result, Grade))
    metrics.count_scores("judged", verdicts.total())
    for verdict, number in verdicts.items():
        if verdict is not None:
            metrics.count_verdicts(verdict.lower(), number)
    _count_problems(metrics, "unjudged", (r.problem for r in results if isinstance(r, Ungraded)))
    tell_evaluations(job.template.name, len(results), map(_evaluation_of, results))
    _observe_stages(metrics, job.trace)


def _said_by_the_judge(results: Sequence[Reward | Unscored]) -> Iterable[float]:
    """Each P(YES) that a judge gave, now or before; what a rule decided has none."""
    for result in results:
        part = result.components.get("accuracy_llm")
        if part is not None and part.signal.p_yes is not None:
            yield part.signal.p_yes


def _evaluation_of(
    result: Reward | Unscored | Grade | Ungraded,
) -> Mapping[str, str | float]:
    """Say what a result is as OpenTelemetry's evaluations do: what has no score has none, and no 0."""
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
        metrics.count_scores(status, number)
        metrics.count_unscored(kind, number)
        if kind is ProblemKind.JUDGE_UNPARSEABLE:
            metrics.count_verdicts("unparseable", number)
        elif kind.startswith("judge_"):
            metrics.count_verdicts("error", number)


def _observe_stages(metrics: Metrics, trace: Trace) -> None:
    # What was remembered did not wait, and asked nobody.
    spent = {stage: seconds for stage, seconds in trace.seconds.items() if seconds}
    metrics.observe_stages(spent)
    tell_stages(spent)
