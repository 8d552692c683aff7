"""The engines of a service: loaded and warmed up at the start, probed after failures."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Generic, Literal, TypeVar

import structlog

from medreward.engines.accelerator import Probe, measure_platform
from medreward.engines.embedder import Embedder
from medreward.engines.embedders.peer import RoleEmbedder
from medreward.engines.judge import Inquiry, Judge
from medreward.engines.judges.cascade import Cascade
from medreward.engines.judges.peer import RoleJudge
from medreward.engines.judges.time_budget import has_abstained
from medreward.engines.registry import BuildContext, build_embedder, build_judge, check_choices
from medreward.engines.remote.budget import CostTracker, Prices
from medreward.engines.status import EngineState, Readiness
from medreward.engines.templates import Template, load_templates
from medreward.errors import (
    BackendDown,
    DeadlinePassed,
    EngineError,
    NonsenseReply,
    NotReady,
    Problem,
    SetupError,
)
from medreward.offload import Offloader
from medreward.settings import Choice, Settings
from medreward.telemetry.metrics import Metrics

E = TypeVar("E", bound=Judge | Embedder)
Role = Literal["judge", "embedder"]

WARM_UP_PAUSE_S = 2.0
LONGEST_PAUSE_S = 60.0
"""Longest pause between probes of a lost engine, which may need an operator to repair it."""
SILENCES_TO_LOSE = 3
"""Failed batches in a row after which an engine counts as lost."""
START_TIMEOUT_S = 1800.0
"""Half an hour: a large model takes minutes to be read from disk and compiled."""
WARM_UP_TIMEOUT_S = 120.0
BEHIND_SERVERS = frozenset({"openai", "role"})
"""Engines that other processes hold."""
WARM_UP_TEXT = "left lower lobe"
LLM_TEMPLATE = "report"
"""A template that only a language model can answer."""
LIMITS_WITHOUT_LLM = (
    "no language model: sentences and whole answers are judged like terms; "
    "reports, rubrics and pairs of answers are refused"
)

log = structlog.get_logger(__name__)


@dataclass(eq=False)
class Slot(Generic[E]):
    """One engine of a service, with its state, its warm-up request and its probe."""

    role: Role
    engine: E | None
    """None until it is built."""
    choice: Choice
    revision: str | None
    metrics: Metrics
    state: EngineState
    _ask: Callable[[E], Awaitable[Sequence[object]]] | None = None
    """Sends the warm-up request; None until the engine is built."""
    is_remote: bool = False
    """True if a server answers for it, or for a part of it: a restart of this process mends nothing."""
    has_started: bool = False
    lost_s: float | None = None
    """When it was lost, on the monotonic clock; None while it is not."""
    _silences: int = 0
    _probe: asyncio.Task[None] | None = None
    _is_closed: bool = False

    @property
    def is_warming_up(self) -> bool:
        """True while the engine is built and has not answered its warm-up request."""
        return self._ask is not None and not self.state.ready

    async def load(
        self, build: Callable[[], Awaitable[E]], ask: Callable[[E], Awaitable[Sequence[object]]]
    ) -> bool:
        """Build the engine unless one was given, and send warm-up requests until it answers.

        Returns False if it failed for good; the state's message is then the reason.
        """
        started = time.perf_counter()
        try:
            if self.engine is None:
                self.engine = await build()
            self._ask = ask
            await self._wait_for_answer()
        except SetupError as exc:
            return self._fail(str(exc))
        except Exception as exc:  # noqa: BLE001 - a loader may raise anything, and readyz must report it
            return self._fail(f"loading failed with {type(exc).__name__}: {exc}")
        if isinstance(self.engine, RoleJudge | RoleEmbedder):
            # The model's name comes from the process that holds it.
            self.choice = self.choice._replace(model=self.engine.model)
            self.state = self.state.model_copy(update={"model": self.engine.model})
        self._set(ready=True, message="ready")
        choice, revision = self.choice, self.revision or ""
        self.metrics.model_info[self.role, choice.engine, named(choice), revision].set(1)
        self.metrics.load_seconds[self.role].set(time.perf_counter() - started)
        self.has_started = True
        return True

    def note(self, problem: Problem | None) -> None:
        """Record the outcome of a batch; after several failures in a row, probe the engine."""
        if problem is None:
            self._silences = 0
            self.back()
            return
        self._silences += 1
        if self._silences >= SILENCES_TO_LOSE:
            self.lost(problem.message)

    def lost(self, reason: str) -> None:
        """Mark a ready engine as lost, and probe it until it answers."""
        if self.state.ready and not self._is_closed:
            self._mark_lost(reason)
            if self._probe is None or self._probe.done():
                self._probe = asyncio.create_task(self._probe_until_back())

    def back(self) -> None:
        """Mark a lost engine as ready again."""
        if not self.state.ready:
            self._set(ready=True, message="ready")
            log.info("engine_back", role=self.role)

    async def aclose(self) -> None:
        """Stop probing and release what the engine holds."""
        self._is_closed = True
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.gather(self._probe, return_exceptions=True)
        if self.engine is not None:
            await self.engine.aclose()

    async def _probe_until_back(self) -> None:
        """Send warm-up requests to a lost engine until it answers.

        A service that is not ready gets no requests that could show that the engine is back.
        """
        pause_s = WARM_UP_PAUSE_S
        while not self.state.ready:
            try:
                await self._wait_for_answer()
            except SetupError as exc:
                self._mark_lost(str(exc))
            except Exception as exc:  # noqa: BLE001 - an engine may raise anything; it is asked again
                self._mark_lost(f"asking for it failed with {type(exc).__name__}")
            else:
                self.back()
                return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _wait_for_answer(self) -> None:
        """Send warm-up requests until one is answered: a remote engine may start after this process.

        Raises:
            SetupError: the engine replies with an error that is not retryable.
        """
        while (problem := await self._first_problem()) is not None:
            if isinstance(problem, Problem) and not problem.retryable:
                raise SetupError(f"the {self.role} fails its warm-up: {problem.message}")
            message = problem.message if isinstance(problem, Problem) else str(problem)
            if message != self.state.message:
                log.warning("engine_awaited", role=self.role, reason=message)
                self.state = self.state.model_copy(update={"message": message})
            await asyncio.sleep(WARM_UP_PAUSE_S)

    async def _first_problem(self) -> Problem | EngineError | None:
        """Start the engine and send one warm-up request; an abstention counts as an answer."""
        if self.engine is None or self._ask is None:
            return BackendDown("the engine is not loaded")
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self.engine.start()
            async with asyncio.timeout(WARM_UP_TIMEOUT_S):
                answers = await self._ask(self.engine)
        except TimeoutError:
            return DeadlinePassed("no answer in time")
        except EngineError as exc:
            return exc
        if not answers:
            return NonsenseReply("it gave no answer")
        problems = (answer for answer in answers if isinstance(answer, Problem))
        return next((problem for problem in problems if not has_abstained(problem)), None)

    def _set(self, *, ready: bool, message: str) -> None:
        self.state = self.state.model_copy(update={"ready": ready, "message": message})
        if ready:
            self.lost_s = None
        self.metrics.engine_ready[self.role].set(ready)

    def _fail(self, reason: str) -> bool:
        # A library's reason may have several lines.
        self._set(ready=False, message=" ".join(reason.split()))
        log.error("loading_failed", role=self.role, reason=self.state.message)
        return False

    def _mark_lost(self, reason: str) -> None:
        self._set(ready=False, message=reason)
        if self.lost_s is None:
            self.lost_s = time.monotonic()
        log.error("engine_lost", role=self.role, reason=reason)


class EngineSupervisor:
    """The judge and the embedder of a service, from their loading to their shutdown."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        offload: Offloader,
        judge: Judge | None,
        embedder: Embedder | None,
        *,
        probe: Probe = measure_platform,
    ) -> None:
        check_choices(settings, probe)
        costs = CostTracker(
            Prices(settings.judge_prompt_price, settings.judge_completion_price),
            settings.judge_max_cost_per_day,
            count=metrics.count_judge_usage,
        )
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="models")
        self._context = BuildContext(settings, self._worker, offload, costs, metrics, probe=probe)
        self.status: Literal["ready", "loading", "failed", "draining"] = "loading"
        choice, llm = settings.judge_choice, settings.llm_choice
        self._judge = Slot(
            "judge",
            judge,
            choice,
            settings.judge_revision,
            metrics,
            _loading(choice, llm),
            is_remote=_is_remote(choice, llm),
        )
        choice = settings.embedder_choice
        self._embedder = Slot(
            "embedder",
            embedder,
            choice,
            settings.embedder_revision,
            metrics,
            _loading(choice),
            is_remote=_is_remote(choice),
        )
        without = ((self._judge, "embed"), (self._embedder, "judge"))
        self._held = [slot for slot, role in without if role != settings.role]
        for slot in self._held:
            metrics.engine_ready[slot.role].set(0)
        self._began_s = time.monotonic()
        self._ready_after_s: float | None = None

    @property
    def judge(self) -> Judge:
        """The judge, once it is built."""
        return self._built(self._judge)

    @property
    def judge_limits(self) -> str | None:
        """What the judge cannot read, once it has started; None for one with a language model."""
        can_read_all = self.judge.can_answer(load_templates()[LLM_TEMPLATE])
        return None if can_read_all else LIMITS_WITHOUT_LLM

    @property
    def embedder(self) -> Embedder:
        """The embedder, once it is built."""
        return self._built(self._embedder)

    @property
    def readiness(self) -> Readiness:
        """Reply of `/readyz`: an engine that was lost makes the service not ready, or degraded."""
        lost = [slot for slot in self._held if not slot.state.ready]
        may_lack = self._context.settings.ready_when_degraded and all(s.is_remote for s in lost)
        has_lost_one = self.status == "ready" and bool(lost)
        return Readiness(
            status=self.status if not has_lost_one else "degraded" if may_lack else "failed",
            engines={slot.role: slot.state for slot in self._held},
        )

    @property
    def stage(self) -> Literal["load", "warm_up", "ready", "failed"]:
        """Progress of the start; an engine that is lost later does not undo it.

        Engines behind servers are not waited for: whoever restarts a process that does not start
        would restart it as long as its judge is away.
        """
        if self.status == "failed":
            return "failed"
        if all(slot.has_started or slot.is_remote for slot in self._held):
            return "ready"
        return "warm_up" if any(slot.is_warming_up for slot in self._held) else "load"

    @property
    def given_up(self) -> str | None:
        """Why this process should end: an engine of its own is lost, and does not come back."""
        longest_s = self._context.settings.lost_engine_s
        for slot in self._held:
            is_for_good = slot.lost_s is not None and time.monotonic() - slot.lost_s >= longest_s
            if longest_s and is_for_good and not slot.is_remote:
                return (
                    f"the {slot.role} was lost and has not come back for {longest_s:g} s "
                    f"(MEDREWARD_LOST_ENGINE_S): {slot.state.message}"
                )
        return None

    @property
    def elapsed_s(self) -> float:
        """Seconds since loading began, or that it took."""
        if self._ready_after_s is not None:
            return self._ready_after_s
        return time.monotonic() - self._began_s

    def check_ready(self) -> None:
        """Refuse a request while the engines cannot answer.

        Raises:
            NotReady: they are loading, could not be loaded, or are being shut down.
        """
        if self.status != "ready":
            states = [(slot.role, slot.state) for slot in self._held]
            waiting = [f"{role}: {state.message}" for role, state in states if not state.ready]
            raise NotReady("; ".join([f"the service is {self.status}", *waiting]))

    async def load(self, wanted: Mapping[str, Template]) -> None:
        """Load the engines of this process and warm them up; `readiness` has the outcome.

        *wanted* are the templates that the judge has to answer, by what needs them.
        """
        # The embedder is loaded first: a judge in vLLM takes its share of the GPU memory that is
        # free after that.
        is_loaded = await self._load(
            self._embedder, build_embedder, lambda embedder: embedder.embed([WARM_UP_TEXT])
        )
        ask_judge = partial(_ask_judge, wanted=wanted)
        if not is_loaded or not await self._load(self._judge, build_judge, ask_judge):
            self.status = "failed"
            return
        settings = self._context.settings
        if (llm := settings.llm_choice) is not None and self._judge in self._held:
            revision = settings.llm_revision or ""
            self._context.metrics.model_info["llm", llm.engine, named(llm), revision].set(1)
        self.status, self._ready_after_s = "ready", self.elapsed_s
        log.info("ready", **{s.role: s.engine.identity for s in self._held if s.engine is not None})
        if self._judge in self._held and (limits := self.judge_limits) is not None:
            log.warning("judge_limited", limits=limits)

    def note(self, role: Role, problem: Problem | None) -> None:
        """Record the outcome of one batch of an engine."""
        (self._judge if role == "judge" else self._embedder).note(problem)

    async def aclose(self) -> None:
        """Shut the engines down."""
        self.status = "draining"
        for slot in (self._judge, self._embedder):
            await slot.aclose()
        self._worker.shutdown(wait=False, cancel_futures=True)

    async def _load(
        self,
        slot: Slot[E],
        build: Callable[[BuildContext], E],
        ask: Callable[[E], Awaitable[Sequence[object]]],
    ) -> bool:
        if slot not in self._held:
            return True
        context = replace(self._context, lost=slot.lost)
        loop = asyncio.get_running_loop()
        return await slot.load(lambda: loop.run_in_executor(self._worker, build, context), ask)

    def _built(self, slot: Slot[E]) -> E:
        if slot.engine is None:
            self.check_ready()
            raise NotReady("the engine is not loaded")
        return slot.engine


def named(choice: Choice) -> str:
    """Return the model of a choice, or its engine if that needs no model."""
    return choice.model or choice.engine


def _is_remote(*choices: Choice | None) -> bool:
    return any(choice.engine in BEHIND_SERVERS for choice in choices if choice is not None)


def _loading(*choices: Choice | None) -> EngineState:
    models = ", ".join(named(choice) for choice in choices if choice is not None)
    return EngineState(ready=False, model=models, message="loading")


async def _ask_judge(judge: Judge, wanted: Mapping[str, Template]) -> Sequence[object]:
    """Send a warm-up request to a judge that has started, and so can check templates.

    Raises:
        SetupError: the judge cannot answer one of the templates; the message names what needs it.
    """
    known = load_templates()
    # The second engine is asked too, so that a broken language model is found at the start and
    # not by the first request that needs it.
    more = {"the second engine": known[LLM_TEMPLATE]} if isinstance(judge, Cascade) else {}
    for what, template in (asked := {**wanted, **more}).items():
        if not judge.can_answer(template):
            raise SetupError(
                f"the judge cannot answer the template {template.name!r}, which {what} needs: it is "
                "no language model, or its tokenizer cannot tell the labels apart by their first "
                "token; choose another MEDREWARD_JUDGE or MEDREWARD_JUDGE_MODEL"
            )
    answerable = (template for template in known.values() if judge.can_answer(template))
    # A recipe without the judge's signals needs no template, but the judge is there to be asked.
    templates = list(dict.fromkeys(asked.values())) or list(islice(answerable, 1))
    return await judge.decide([Inquiry(t, WARM_UP_TEXT, WARM_UP_TEXT) for t in templates])
