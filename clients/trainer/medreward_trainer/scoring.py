"""Rewards from the service: requested as groups finish, waited for, and never made up."""

import os
import re
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from types import MappingProxyType
from typing import Self

from medreward_client import (
    Item,
    Judged,
    MedrewardError,
    Problem,
    Provenance,
    RequestRefused,
    RewardClient,
    Sample,
    Scored,
    TimedOut,
    TryAgain,
    Unjudged,
    Unscored,
)
from medreward_client._cli.doctor import first_failure
from medreward_client._cli.target import Target
from medreward_client.pauses import Pauses
from medreward_trainer.config.config import Reward
from medreward_trainer.data.examples import Example
from medreward_trainer.errors import NoRewards, RewardsChanged, Stopped
from medreward_trainer.rollouts.rollout import Group, Score
from medreward_trainer.run.retry import PAUSES, SLICE_S, Backoff, IsStopping, Say

IN_FLIGHT = 8
"""Groups scored at once; the client sends no more requests in parallel."""
AGAIN = 3
"""Retries of samples without a reward, if they are few."""
REMINDER_S = 15.0
MAX_REFUSED_SHARE = 0.5
"""Largest share of a step's samples that may fail permanently."""
PROBE = "probe"
"""The id of the sample that asks for the recipe's weights and range."""
LOOK_S = 5.0
"""Timeout of one look at a service that does not answer as one."""
ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Pending:
    """A group that is being scored."""

    samples: tuple[Sample, ...]
    step: int | None
    future: "Future[list[Scored | Unscored]]"


class RewardSource:
    """A run's connection to the service.

    `say` prints the reason of each wait, and `is_stopping` ends it. `began_with` is the provenance
    of the run's earlier rewards, if the run is resumed.
    """

    def __init__(
        self,
        config: Reward,
        *,
        run_id: str,
        say: Say,
        is_stopping: IsStopping = lambda: False,
        began_with: Provenance | None = None,
        pauses: Pauses = PAUSES,
    ) -> None:
        self._config, self._run_id = config, run_id
        self._api_key = os.environ.get("MEDREWARD_API_KEY")
        self._say, self._is_stopping = say, is_stopping
        self._backoff = partial(
            Backoff, config.patience_s, say=say, is_stopping=is_stopping, pauses=pauses
        )
        try:
            self._client = RewardClient(
                config.base_url, api_key=self._api_key, deadline_s=config.deadline_s
            )
        except ValueError as exc:
            raise NoRewards(f"reward.base_url={config.base_url}: {exc}") from exc
        self._threads = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="rewards")
        self.provenance = began_with
        self.weights = MappingProxyType[str, float]({})
        """Weights of the recipe's components; empty until the service is ready."""
        self.range = (0.0, 1.0)
        """The recipe's least and greatest reward."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        # Cancel queued groups first; closing the client then ends the requests in flight. A thread
        # may open another connection meanwhile, so the client is closed once more.
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client.close()
        self._threads.shutdown()
        self._client.close()

    def wait_until_ready(self, example: Example) -> None:
        """Wait for the service, and read the provenance, weights and range of its rewards.

        `example` is one of the run's. It is sent with an empty response, for which rules suffice
        and no model is asked.

        Raises:
            NoRewards: it was not ready within `patience_s`, or it refuses the run's requests.
            RewardsChanged: its provenance differs from that of the run's beginning.
        """
        patience, trouble = self._backoff(), ""
        while not trouble or patience.wait(f"the service is not ready: {trouble}"):
            try:
                health = self._client.health()
                if health.ready:
                    return self._probe(example)
                trouble = f"it is {health.status}"
            except TryAgain as exc:
                trouble = str(exc)
            except MedrewardError as exc:
                # Another server answers there, or none can be asked: waiting does not help.
                raise NoRewards(self._diagnosed(exc)) from exc
        raise NoRewards(
            f"the service at {self._config.base_url} did not get ready in "
            f"{self._config.patience_s:g} s: {trouble}. Start it with `medreward serve`, or name "
            "another in reward.base_url"
        )

    def submit(self, group: Group, *, step: int | None) -> Pending:
        """Start scoring a group, and return at once.

        `step` is the training step; None for validation, which the service does not watch.
        """
        samples = samples_of(group)
        return Pending(samples, step, self._threads.submit(self._ask, samples, step))

    def collect(self, pending: Sequence[Pending]) -> list[list[Score]]:
        """Wait for the scores of groups; return one list for each group, in their order.

        Samples with a temporary failure are retried: a few times if they are few, and up to
        `patience_s` while more than `max_unscored_share` of them have no reward.

        Raises:
            NoRewards: too many samples have none; no value is put in its place.
            RewardsChanged: the service's provenance changed.
        """
        results = [result for one in pending for result in self._results(one, pending)]
        self._ask_again(pending, results)
        # Validation has one response to a prompt, which a recipe that compares groups cannot score.
        if any(one.step is not None for one in pending):
            self._check_refused(results)
        scores = iter([score_of(result) for result in results])
        return [list(islice(scores, len(one.samples))) for one in pending]

    def judge(self, items: Sequence[Item]) -> list[Judged | Unjudged]:
        """Judge answers, and wait for the service as `collect` does."""
        patience, trouble = self._backoff(), ""
        while not trouble or patience.wait(trouble):
            try:
                results = list(self._client.judge(items).results)
            except RequestRefused as exc:
                raise NoRewards(f"the service refuses to judge: {exc}") from exc
            except MedrewardError as exc:
                trouble = str(exc)
            else:
                passing = sum(isinstance(r, Unjudged) and r.error.retryable for r in results)
                if passing <= self._config.max_unscored_share * len(results):
                    return results
                trouble = f"{passing} of {len(results)} answers are unjudged"
        raise NoRewards(f"no judgements in {self._config.patience_s:g} s: {trouble}")

    def _diagnosed(self, trouble: MedrewardError) -> str:
        """Return what is wrong with reward.base_url, as `medreward-client doctor` finds it."""
        url = self._config.base_url
        found = first_failure(Target(url, self._api_key, self._config.recipe, LOOK_S))
        why = str(trouble) if found is None else f"{found.found}; {found.advice}"
        return f"reward.base_url={url}: {why}. `medreward-client doctor {url}` tells more"

    def _probe(self, example: Example) -> None:
        # Without a modality the recipe's signal for it would be left out, and its weight unknown.
        probe = replace(sample_of(example, ""), id=PROBE, modality=example.modality or "OTHER")
        # Two, for signals that compare the samples of a group.
        pair = [replace(probe, group=PROBE, group_size=2)] * 2
        try:
            reply = self._client.reward(pair, recipe=self._config.recipe)
        except RequestRefused as exc:
            raise NoRewards(
                f"the service at {self._config.base_url} refuses: {exc}; see reward.recipe, and "
                "MEDREWARD_API_KEY"
            ) from exc
        self._check(reply.provenance)
        self.range = reply.range
        least, most = reply.range
        self._say(f"rewards by the recipe {reply.provenance.recipe}, from {least:g} to {most:g}")
        result, _ = reply.results
        self.weights = MappingProxyType(
            {name: part.weight for name, part in result.components.items()}
        )

    def _ask(self, samples: Sequence[Sample], step: int | None) -> list[Scored | Unscored]:
        """Request the rewards of samples; an error becomes an unscored result of each sample."""
        try:
            reply = self._client.reward(
                samples,
                recipe=self._config.recipe,
                run_id=None if step is None else self._run_id,
                step=step,
            )
        except RequestRefused as refused:
            # The client tells refused samples apart, and raises only if there are no others.
            problem = Problem("sample_refused", str(refused), retryable=False)
        except MedrewardError as trouble:
            kind = "service_timeout" if isinstance(trouble, TimedOut) else "service_unavailable"
            problem = Problem(kind, str(trouble), retryable=True)
        else:
            self._check(reply.provenance)
            return list(reply.results)
        return [Unscored(sample.id, problem, {}, ()) for sample in samples]

    def _check(self, provenance: Provenance) -> None:
        """Compare the provenance of rewards with that of the run's beginning."""
        before, self.provenance = self.provenance, provenance
        if before is None or not self._config.pinned:
            return
        changed = [
            f"{name} was {getattr(before, name)}, is {getattr(provenance, name)}"
            for name in ("recipe", "fingerprint", "judge", "embedder")
            if getattr(before, name) != getattr(provenance, name)
        ]
        if changed:
            self.provenance = before
            raise RewardsChanged(
                f"the service scores by something else than this run began with: "
                f"{'; '.join(changed)}. Bring the former back, or go on with reward.pinned=false"
            )

    def _results(self, one: Pending, among: Sequence[Pending]) -> list[Scored | Unscored]:
        reminds_at = time.monotonic() + REMINDER_S
        while not one.future.done():
            wait([one.future], timeout=SLICE_S)
            if self._is_stopping():
                raise Stopped("asked to stop")
            if time.monotonic() >= reminds_at:
                reminds_at += REMINDER_S
                done = sum(other.future.done() for other in among)
                self._say(f"waiting for rewards: {done} of {len(among)} groups are scored")
        return one.future.result()

    def _ask_again(self, pending: Sequence[Pending], results: list[Scored | Unscored]) -> None:
        """Retry temporary failures, and replace their results in place.

        Their whole groups are sent, since a signal may compare a group's samples; what was judged
        is cached by the service.
        """
        samples = [sample for one in pending for sample in one.samples]
        patience, attempt = self._backoff(), 0
        while passing := [
            i for i, r in enumerate(results) if isinstance(r, Unscored) and r.error.retryable
        ]:
            is_borne = len(passing) <= self._config.max_unscored_share * len(results)
            if is_borne and attempt >= AGAIN:
                break
            without = f"{len(passing)} of {len(results)} samples have no reward ({_kinds(results)})"
            if not patience.wait(without):
                if is_borne:
                    break
                raise NoRewards(
                    f"{without}, after {self._config.patience_s:g} s of asking. Mend the service "
                    "and run the same command again; reward.patience_s says how long a step waits"
                )
            groups = {samples[i].group for i in passing}
            asked = [i for i, sample in enumerate(samples) if sample.group in groups]
            answers = self._ask([samples[i] for i in asked], pending[0].step)
            for i, result in zip(asked, answers, strict=True):
                # A failure of the retry takes no reward away.
                if isinstance(result, Scored) or isinstance(results[i], Unscored):
                    results[i] = result
            attempt += 1

    def _check_refused(self, results: Sequence[Scored | Unscored]) -> None:
        """Stop a run whose samples fail permanently, since its data or recipe must be wrong."""
        refused = [r for r in results if isinstance(r, Unscored) and not r.error.retryable]
        if len(refused) > MAX_REFUSED_SHARE * len(results):
            raise NoRewards(
                f"{len(refused)} of {len(results)} samples cannot be scored, however long one waits "
                f"({_kinds(results)}): {refused[0].error.message}"
            )


def samples_of(group: Group) -> tuple[Sample, ...]:
    """Make the samples of a request from a group."""
    example, size = group.prompt.example, len(group.rollouts)
    return tuple(
        replace(
            sample_of(example, rollout.text),
            id=f"{example.uid}/{number}",
            group=example.uid,
            group_size=size,
        )
        for number, rollout in enumerate(group.rollouts)
    )


def sample_of(example: Example, response: str) -> Sample:
    """Make a sample of an example and a response to it."""
    return Sample(
        response,
        example.reference,
        question=example.problem,
        modality=example.modality,
        criteria=example.criteria or None,
        extra=example.extra,
    )


def score_of(result: Scored | Unscored) -> Score:
    """Convert a result of the client to a score."""
    components = {name: part.value for name, part in result.components.items()}
    if isinstance(result, Unscored):
        return Score(None, components, result.error.kind, result.unanswered)
    return Score(result.reward, components, None, result.unanswered)


def answer_of(response: str) -> str | None:
    """Return the stripped content of the first answer tags; None without them or if it is empty."""
    found = ANSWER.search(response)
    return (found[1].strip() or None) if found else None


def _kinds(results: Sequence[Scored | Unscored]) -> str:
    counts = Counter(r.error.kind for r in results if isinstance(r, Unscored))
    return ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
