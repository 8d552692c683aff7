"""From settings to engines that have answered once: loading, warming up, and saying how far it is."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Literal, TypeVar

import structlog

from medreward.engines.embedder import Embedder
from medreward.engines.embedders.peer import RoleEmbedder
from medreward.engines.judge import Inquiry, Judge
from medreward.engines.judges.cascade import Cascade
from medreward.engines.judges.peer import RoleJudge
from medreward.engines.judges.time_budget import has_abstained
from medreward.engines.registry import Workshop, build_embedder, build_judge, check_choices
from medreward.engines.remote.budget import CostTracker, Prices
from medreward.engines.status import EngineState, Readiness
from medreward.engines.templates import Template, load_templates
from medreward.errors import (
    DeadlinePassed,
    EngineError,
    NonsenseReply,
    NotReady,
    Problem,
    SetupError,
)
from medreward.offload import Pace
from medreward.settings import Choice, Settings
from medreward.telemetry.metrics import Metrics

T = TypeVar("T")
Role = Literal["judge", "embedder"]
HELD: Mapping[str, tuple[Role, ...]] = {
    "all": ("judge", "embedder"),
    "api": ("judge", "embedder"),
    "judge": ("judge",),
    "embed": ("embedder",),
}
"""What a process has to do with, by its role."""

Start = Callable[[], Awaitable[None]]
AskOnce = Callable[[], Awaitable[Sequence[object]]]

WARM_UP_PAUSE_S = 2.0
LONGEST_PAUSE_S = 60.0
"""Between looks at an engine that answers, but not as it should: somebody has to mend it."""
SILENCES_TO_LOSE = 3
"""Batches in a row without any answer, after which an engine is taken to have gone."""
START_TIMEOUT_S = 1800.0
"""A large model takes its time to come from the disk and be compiled."""
WARM_UP_TIMEOUT_S = 120.0
WARM_UP_TEXT = "left lower lobe"
LLM_TEMPLATE = "report"
"""Only a language model grades reports."""

log = structlog.get_logger(__name__)


class Engines:
    """The two engines of a service, from the first byte loaded to the last thing given back."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        pace: Pace,
        judge: Judge | None,
        embedder: Embedder | None,
    ) -> None:
        check_choices(settings)
        self._settings = settings
        self._metrics = metrics
        self._pace = pace
        self._judge = judge
        self._embedder = embedder
        self._costs = CostTracker(
            Prices(settings.judge_prompt_price, settings.judge_completion_price),
            settings.judge_max_cost_per_day,
            count=metrics.count_judge_usage,
        )
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="models")
        self.status: Literal["ready", "loading", "failed", "draining"] = "loading"
        choices = {
            "judge": (settings.judge_choice, settings.llm_choice),
            "embedder": (settings.embedder_choice,),
        }
        self._states: dict[Role, EngineState] = {
            role: _loading(*choices[role]) for role in HELD[settings.role]
        }
        for role in self._states:
            metrics.observe_engine(role, is_ready=False)
        self._began_s = time.monotonic()
        self._ready_after_s: float | None = None
        self._starts: dict[Role, Start] = {}
        self._asks: dict[Role, AskOnce] = {}
        self._silences: dict[Role, int] = {"judge": 0, "embedder": 0}
        self._probes: dict[Role, asyncio.Task[None]] = {}

    @property
    def judge(self) -> Judge:
        """The judge, once there is one."""
        return self._loaded(self._judge)

    @property
    def embedder(self) -> Embedder:
        """The embedder, once there is one."""
        return self._loaded(self._embedder)

    @property
    def readiness(self) -> Readiness:
        """What `/readyz` says: an engine that has gone since makes the service not ready."""
        has_lost_one = self.status == "ready" and not all(s.ready for s in self._states.values())
        status = "failed" if has_lost_one else self.status
        return Readiness(status=status, engines={**self._states})

    @property
    def stage(self) -> Literal["load", "warm_up", "ready", "failed"]:
        """How far the start is; an engine that goes later does not undo it."""
        if self._ready_after_s is not None:
            return "ready"
        if self.status == "failed":
            return "failed"
        is_asked = any(role in self._asks and not s.ready for role, s in self._states.items())
        return "warm_up" if is_asked else "load"

    @property
    def elapsed_s(self) -> float:
        """Seconds since loading began, or that it took."""
        if self._ready_after_s is not None:
            return self._ready_after_s
        return time.monotonic() - self._began_s

    def check_ready(self) -> None:
        """Let a request pass only where the engines can answer.

        Raises:
            NotReady: they are loading, could not be loaded, or are being given back.
        """
        if self.status != "ready":
            waiting = [f"{role}: {s.message}" for role, s in self._states.items() if not s.ready]
            raise NotReady("; ".join([f"the service is {self.status}", *waiting]))

    async def load(self, template: Template) -> None:
        """Load what this process is to hold and ask it once; on failure `readiness` says why."""
        loads: dict[Role, Callable[[], Awaitable[None]]] = {
            "judge": lambda: self._load_judge(template),
            "embedder": self._load_embedder,
        }
        role: Role = "judge"
        try:
            for role in self._states:
                await loads[role]()
        except SetupError as exc:
            self._fail(role, str(exc))
        except Exception as exc:  # noqa: BLE001 - a loader may raise anything, and readyz must say so
            self._fail(role, f"loading failed with {type(exc).__name__}: {exc}")
        else:
            self.status, self._ready_after_s = "ready", self.elapsed_s
            log.info("ready", **self._identities())

    def _identities(self) -> dict[str, str]:
        held = {"judge": self._judge, "embedder": self._embedder}
        return {role: engine.identity for role, engine in held.items() if engine is not None}

    def note(self, role: Role, problem: Problem | None) -> None:
        """Hear what became of a batch; after several without an answer, look for the engine."""
        if problem is None:
            self._silences[role] = 0
            self._note_back(role)
            return
        self._silences[role] += 1
        if self._silences[role] >= SILENCES_TO_LOSE:
            self._hear_of_loss(role, problem.message)

    def _hear_of_loss(self, role: Role, message: str) -> None:
        """Look for an engine that was ready and has gone."""
        if self._states[role].ready and self.status != "draining":
            self._note_lost(role, message)
            probe = self._probes.get(role)
            if probe is None or probe.done():
                self._probes[role] = asyncio.create_task(self._wait_for(role))

    async def aclose(self) -> None:
        """Give back what the engines hold."""
        self.status = "draining"
        for probe in self._probes.values():
            probe.cancel()
        await asyncio.gather(*self._probes.values(), return_exceptions=True)
        for engine in (self._judge, self._embedder):
            if engine is not None:
                await engine.aclose()
        self._worker.shutdown(wait=False, cancel_futures=True)

    async def _load_judge(self, template: Template) -> None:
        started = time.perf_counter()
        if self._judge is None:
            self._judge = await self._in_thread("judge", build_judge)
        judge = self._judge
        templates = [template]
        if isinstance(judge, Cascade):
            # Else a language model that is broken would be found by the first that needs it.
            templates.append(load_templates()[LLM_TEMPLATE])
        inquiries = [Inquiry(t, answer=WARM_UP_TEXT, reference=WARM_UP_TEXT) for t in templates]
        self._starts["judge"] = judge.start
        self._asks["judge"] = lambda: _ask_judge(judge, inquiries)
        await self._warm_up("judge")
        choice = self._settings.judge_choice
        if isinstance(judge, RoleJudge):
            choice = choice._replace(model=judge.model)
        self._note_ready("judge", choice, self._settings.judge_revision, started)
        self._name_llm()

    async def _load_embedder(self) -> None:
        started = time.perf_counter()
        if self._embedder is None:
            self._embedder = await self._in_thread("embedder", build_embedder)
        embedder = self._embedder
        self._starts["embedder"] = embedder.start
        self._asks["embedder"] = lambda: embedder.embed([WARM_UP_TEXT])
        await self._warm_up("embedder")
        choice = self._settings.embedder_choice
        if isinstance(embedder, RoleEmbedder):
            choice = choice._replace(model=embedder.model)
        self._note_ready("embedder", choice, self._settings.embedder_revision, started)

    async def _in_thread(self, role: Role, build: Callable[[Workshop], T]) -> T:
        loop = asyncio.get_running_loop()
        workshop = Workshop(
            self._settings,
            self._worker,
            self._pace,
            self._costs,
            self._metrics,
            partial(self._hear_of_loss, role),
        )
        return await loop.run_in_executor(self._worker, partial(build, workshop))

    async def _wait_for(self, role: Role) -> None:
        """Ask an engine that has gone until it is back: without requests, nothing else finds out."""
        pause_s = WARM_UP_PAUSE_S
        while not self._states[role].ready:
            try:
                await self._warm_up(role)
            except SetupError as exc:
                self._note_lost(role, str(exc))
            except Exception as exc:  # noqa: BLE001 - as when loading; it is asked again
                self._note_lost(role, f"asking for it failed with {type(exc).__name__}")
            else:
                self._note_back(role)
                return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _note_back(self, role: Role) -> None:
        """Note that an engine answers, where it was thought to have gone."""
        state = self._states[role]
        if not state.ready:
            self._states[role] = state.model_copy(update={"ready": True, "message": "ready"})
            self._metrics.observe_engine(role, is_ready=True)
            log.info("engine_back", role=role)

    def _note_lost(self, role: Role, message: str) -> None:
        self._states[role] = self._states[role].model_copy(
            update={"ready": False, "message": message}
        )
        self._metrics.observe_engine(role, is_ready=False)
        log.error("engine_lost", role=role, reason=message)

    async def _warm_up(self, role: Role) -> None:
        """Ask until there is an answer: a remote engine may come up after we do.

        Raises:
            SetupError: it answers, but not what was asked; waiting will not mend that.
        """
        while True:
            problem = await _first_problem(self._starts[role], self._asks[role])
            if problem is None:
                return
            if isinstance(problem, Problem) and not problem.retryable:
                raise SetupError(f"the {role} fails its warm-up: {problem.message}")
            message = problem.message if isinstance(problem, Problem) else str(problem)
            if message != self._states[role].message:
                log.warning("engine_awaited", role=role, reason=message)
            self._states[role] = self._states[role].model_copy(update={"message": message})
            await asyncio.sleep(WARM_UP_PAUSE_S)

    def _note_ready(self, role: Role, choice: Choice, revision: str | None, started: float) -> None:
        state = self._states[role].model_copy(update={"ready": True, "message": "ready"})
        if choice.engine == "role":
            # Only the process that holds the model knows its name.
            state = state.model_copy(update={"model": choice.model})
        self._states[role] = state
        self._metrics.observe_engine(role, is_ready=True)
        self._metrics.observe_model(
            role,
            engine=choice.engine,
            model=named(choice),
            revision=revision or "",
            load_s=time.perf_counter() - started,
        )

    def _name_llm(self) -> None:
        choice, revision = self._settings.llm_choice, self._settings.llm_revision or ""
        if choice is not None:
            self._metrics.name_model(
                "llm", engine=choice.engine, model=named(choice), revision=revision
            )

    def _fail(self, role: Role, message: str) -> None:
        """Give up loading; the libraries' reasons may have several lines."""
        self.status = "failed"
        reason = " ".join(message.split())
        self._states[role] = self._states[role].model_copy(update={"message": reason})
        log.error("loading_failed", role=role, reason=reason)

    def _loaded(self, engine: T | None) -> T:
        if engine is None:
            self.check_ready()
            raise NotReady("the engine is not loaded")
        return engine


def named(choice: Choice) -> str:
    """Name a choice in a word: its model, or its engine where that needs none."""
    return choice.model or choice.engine


def _loading(*choices: Choice | None) -> EngineState:
    models = ", ".join(named(choice) for choice in choices if choice is not None)
    return EngineState(ready=False, model=models, message="loading")


async def _ask_judge(judge: Judge, inquiries: Sequence[Inquiry]) -> Sequence[object]:
    """Ask a judge that has started, and so knows what it can answer.

    Raises:
        SetupError: not the recipe's template.
    """
    for template in (inquiry.template for inquiry in inquiries):
        if not judge.can_answer(template):
            raise SetupError(
                f"the judge cannot answer the template {template.name!r}: it is no language model, "
                "or its tokenizer cannot tell the labels apart by their first token; "
                "choose another MEDREWARD_JUDGE or MEDREWARD_JUDGE_MODEL"
            )
    return await judge.decide(inquiries)


async def _first_problem(start: Start, ask: AskOnce) -> Problem | EngineError | None:
    """Ask once; an engine that would rather not say has been heard."""
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            await start()
        async with asyncio.timeout(WARM_UP_TIMEOUT_S):
            answers = await ask()
    except TimeoutError:
        return DeadlinePassed("no answer in time")
    except EngineError as exc:
        return exc
    if not answers:
        return NonsenseReply("it gave no answer")
    problems = (answer for answer in answers if isinstance(answer, Problem))
    return next((problem for problem in problems if not has_abstained(problem)), None)
