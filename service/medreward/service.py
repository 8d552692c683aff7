"""The service: every object with the lifetime of the process, and a request's access to them."""

from collections.abc import Hashable, Mapping
from functools import cached_property, partial
from typing import Any, Literal, TypeVar

from medreward.admission import Admission, Deadline, Load
from medreward.cache.memory import MemoryTier
from medreward.cache.redis import build_redis_tier
from medreward.engines.accelerator import Probe, measure_platform
from medreward.engines.embedder import Embedder, Vector
from medreward.engines.judge import Inquiry, Judge, Judgement
from medreward.engines.judges.cascade import (
    has_other_engine,
    identity_for,
    is_for_terms,
    reader_for,
)
from medreward.engines.judges.peer import RoleJudge
from medreward.engines.status import ExamScope, Readiness, Startup
from medreward.engines.supervisor import EngineSupervisor
from medreward.engines.templates import Template, load_templates
from medreward.errors import InvalidRequest, SetupError
from medreward.exam.examiner import TEMPLATE, Examinee, Examiner
from medreward.guards.normal import SAMPLES_SHARE, cache_bytes, limit_cache
from medreward.inference.bindings import Binding, EmbedderBinding, JudgeBinding
from medreward.inference.resolver import Resolver
from medreward.lifecycle import EventLoopWatchdog, Lifecycle
from medreward.offload import Offloader
from medreward.parsing.sample import ParsedMemory
from medreward.pipeline import ScoringContext
from medreward.recipes.recipe import TEMPLATES, Recipe, load_recipes
from medreward.runs.watch import RunWatch
from medreward.settings import Settings
from medreward.signals.own import Bounds, OwnSignals
from medreward.signals.registry import load_kinds
from medreward.telemetry.metrics import Metrics

Q = TypeVar("Q", bound=Hashable)
A = TypeVar("A")

EXAMINED = frozenset({"causal_lm", "cross_encoder", "vllm"})
"""Engines of judges in this process, whose exam costs only time."""


class Service:
    """Settings, recipes and engines of one process."""

    def __init__(
        self,
        settings: Settings,
        *,
        judge: Judge | None = None,
        embedder: Embedder | None = None,
        probe: Probe = measure_platform,
    ) -> None:
        self.settings = settings
        self._is_judge_given = judge is not None
        self.metrics = Metrics(settings.role)
        self.templates = load_templates()
        kinds = load_kinds(settings.signals)
        self.recipes = load_recipes(settings.recipes, kinds)
        check_recipes(self.recipes, self.templates, default=settings.recipe)
        # A shipped recipe that nobody chose may need more than the judge can.
        self._wanted = {settings.recipe, *(self.recipes.keys() - load_recipes().keys())}
        self._fingerprints = {
            name: recipe.fingerprint(*(self.templates[t].sha for t in recipe.templates))
            for name, recipe in self.recipes.items()
        }
        for name, recipe in self.recipes.items():
            for end, bound in zip(("least", "greatest"), recipe.bounds, strict=True):
                self.metrics.reward_range[name, end].set(bound)
        self.own_signals = OwnSignals(
            kinds, Bounds(settings.signals_timeout_s, settings.signals_memory_bytes)
        )
        self.offload = Offloader()
        self.engines = EngineSupervisor(
            settings, self.metrics, self.offload, judge, embedder, probe=probe
        )
        self.admission = Admission(
            Load(
                requests=settings.max_requests_in_flight,
                body_bytes=settings.max_bytes_in_flight,
                questions=settings.max_questions_in_flight,
            )
        )
        metrics = self.metrics
        metrics.in_flight.set_function(lambda: self.admission.in_flight.requests)
        metrics.in_flight_bytes.set_function(lambda: self.admission.in_flight.body_bytes)
        metrics.in_flight_questions.set_function(lambda: self.admission.in_flight.questions)
        self.examiner = Examiner(
            self.metrics,
            is_required=settings.exam == "require" and settings.role != "embed",
            is_busy=lambda: self.admission.in_flight.requests > 0,
            deadline_s=settings.deadline_s,
        )
        self.lifecycle = Lifecycle(
            delay_s=settings.drain_delay_s,
            longest_s=settings.longest_drain_s,
            in_flight=lambda: self.admission.in_flight.requests,
        )
        limit_cache(settings.text_cache_bytes)
        self.parsed = ParsedMemory(settings.text_cache_bytes // SAMPLES_SHARE)
        metrics.text_cache_bytes.set_function(lambda: cache_bytes() + self.parsed.size_bytes)
        metrics.ready.set_function(lambda: self.readiness.is_ready)
        metrics.draining.set_function(lambda: self.lifecycle.has_begun)
        self.watchdog = EventLoopWatchdog()
        self.keys = settings.key_ring
        self.redis = build_redis_tier(settings, self.metrics)
        self.runs = RunWatch(self.metrics)
        self._resolvers: list[Resolver[Any, Any]] = []

    @property
    def context(self) -> ScoringContext:
        """The engines behind their caches, with templates, limits and identities.

        Raises:
            NotReady: the engines are loading, could not be loaded, or are being closed.
        """
        self.engines.check_ready()
        return self._context

    # The resolvers are built on first use, since an engine's identity is known only after its start.
    @cached_property
    def judge_resolver(self) -> Resolver[Inquiry, Judgement]:
        """The judge's resolver."""
        binding = JudgeBinding(self.engines.judge, self.settings.judge_timeout_s)
        return self._resolver(binding, self.settings.judgement_cache_bytes)

    @cached_property
    def embedder_resolver(self) -> Resolver[str, Vector]:
        """The embedder's resolver."""
        binding = EmbedderBinding(self.engines.embedder, self.settings.embedder_timeout_s)
        return self._resolver(binding, self.settings.embedding_cache_bytes)

    def check_open(self) -> None:
        """Check that this process accepts requests.

        Raises:
            NotReady: the engines cannot answer yet, a required exam is not passed, or the process
                is draining.
        """
        self.lifecycle.check_admits()
        self.engines.check_ready()
        self.examiner.check_passed()

    async def load(self) -> None:
        """Connect to Redis and load the engines; `readiness` reports the outcome."""
        if self.redis is not None:
            await self.redis.start()
        await self.engines.load(
            {
                f"the signal {signal} of the recipe {name!r}": self.templates[template]
                for name in self._wanted
                for signal, template in self.recipes[name].judged.items()
            }
        )

    def unanswerable(self, recipe: Recipe) -> Mapping[str, str]:
        """Return the signals of a recipe that the judge cannot answer, with their templates.

        Raises:
            NotReady: the engines are loading, could not be loaded, or are being closed.
        """
        answerable = self.context.answerable
        return {name: t for name, t in recipe.judged.items() if t not in answerable}

    async def examine(self) -> None:
        """Let the judge take its exam, if the engines are loaded and the settings want one."""
        if self.engines.status != "ready" or not self._is_examined:
            return
        judge = self.engines.judge
        if isinstance(judge, RoleJudge):
            await self.examiner.follow(judge)
        elif not judge.can_answer(self.templates[TEMPLATE]):
            self.examiner.refusal = (
                "the judge cannot be examined (MEDREWARD_EXAM=require): it does not answer the "
                f"template {TEMPLATE!r}"
            )
        else:
            await self.examiner.examine(self.examinee)

    async def aclose(self) -> None:
        """Close the resolvers, Redis and the engines, in that order."""
        # The resolvers first: the ends of their batches still release leases through Redis, and
        # no batch may run on an engine that is being closed.
        for resolver in self._resolvers:
            await resolver.aclose()
        if self.redis is not None:
            await self.redis.aclose()
        await self.engines.aclose()
        await self.own_signals.aclose()
        self.offload.close()

    @property
    def readiness(self) -> Readiness:
        """The reply of `/readyz`. It reports Redis, but readiness does not depend on it."""
        cache = "memory" if self.redis is None else f"memory and Redis: {self.redis.state()}"
        reply = self.engines.readiness
        status = reply.status
        # An engine that was lost is reported as such, whatever the exam.
        if reply.is_ready and self.status != "ready":
            status = self.status
        elif reply.is_ready and self.watchdog.is_late:
            status = "stalled"
        if self.lifecycle.has_begun:
            status = "draining"
        update = {"status": status, "cache": cache, "judge_exam": self.examiner.exam}
        return reply.model_copy(update=update)

    @property
    def status(self) -> Literal["ready", "loading", "failed", "draining"]:
        """The progress of the start: of the engines, then of the exam if it is required."""
        status = self.engines.status
        return self.examiner.status if status == "ready" else status

    @property
    def examinee(self) -> Examinee:
        """The judge for its exam; a verifier that no language model helps is examined in terms."""
        judge = self.engines.judge
        if isinstance(judge, RoleJudge):
            exam = judge.facts.judge_exam
            is_verifier = exam is not None and exam.scope == "terms"
        else:
            is_verifier = self.settings.judge_choice.engine == "cross_encoder"
        scope: ExamScope = "terms" if is_verifier and not has_other_engine(judge) else "answers"
        return Examinee(scope, self.templates[TEMPLATE], self.judge_resolver)

    @property
    def startup(self) -> Startup:
        """The reply of `/startupz`."""
        engines = self.engines
        return Startup(
            stage=engines.stage, engines=engines.readiness.engines, elapsed_s=engines.elapsed_s
        )

    def recipe(self, name: str | None) -> Recipe:
        """Return a recipe by name; without a name, the default one.

        Raises:
            InvalidRequest: the name is unknown; the message lists the known ones.
        """
        found = self.recipes.get(self.settings.recipe if name is None else name)
        if found is None:
            raise InvalidRequest(
                f"recipe: unknown; choose from {', '.join(self.recipes)}", kind="unknown_recipe"
            )
        return found

    def fingerprint(self, recipe: Recipe) -> str:
        """Return the hash of everything in a recipe that can change a reward."""
        return self._fingerprints[recipe.name]

    def deadline(self, deadline_ms: int | None) -> Deadline:
        """Return the deadline of a request that arrives now; None stands for the default.

        Raises:
            InvalidRequest: it is longer than this deployment allows.
        """
        seconds = self.settings.deadline_s if deadline_ms is None else deadline_ms / 1000
        if seconds > self.settings.max_deadline_s:
            longest_ms = round(self.settings.max_deadline_s * 1000)
            raise InvalidRequest(f"deadline_ms: at most {longest_ms} here")
        return Deadline.after(seconds)

    @property
    def _is_examined(self) -> bool:
        settings = self.settings
        if settings.exam == "off" or settings.role == "embed":
            return False
        if settings.exam != "auto" or isinstance(self.engines.judge, RoleJudge):
            return True
        # A judge that was given in place of the settings' is a stand-in.
        choices = (settings.judge_choice, settings.llm_choice)
        engines = {choice.engine for choice in choices if choice is not None}
        return not self._is_judge_given and engines <= EXAMINED

    @cached_property
    def _context(self) -> ScoringContext:
        judge, templates = self.engines.judge, self.templates.values()
        return ScoringContext(
            judge_resolver=self.judge_resolver,
            embedder_resolver=self.embedder_resolver,
            templates=self.templates,
            limits=self.settings.limits,
            offload=self.offload,
            parsed=self.parsed,
            readers={t.name: reader_for(judge, t) for t in templates},
            has_other_engine=has_other_engine(judge),
            is_for_terms=is_for_terms(judge),
            answerable=frozenset(t.name for t in templates if judge.can_answer(t)),
            judge_identities={t.name: identity_for(judge, t) for t in templates},
            judge_limits=self.engines.judge_limits,
            embedder_identity=self.engines.embedder.identity,
            fingerprints=self._fingerprints,
            own_signals=self.own_signals,
        )

    def _resolver(self, binding: Binding[Q, A], cache_bytes: int) -> Resolver[Q, A]:
        memory = MemoryTier(cache_bytes)
        self.metrics.answer_cache_bytes[binding.role].set_function(lambda: memory.size_bytes)
        resolver = Resolver(
            binding,
            memory,
            self.metrics,
            self.redis,
            self.offload,
            on_outcome=partial(self.engines.note, binding.role),
        )
        self._resolvers.append(resolver)
        return resolver


def _about_an_answer(templates: Mapping[str, Template]) -> list[str]:
    """Return the names of the templates that ask whether one answer is right, by yes or no."""
    others = TEMPLATES.values()
    return [name for name, t in templates.items() if t.kind == "verdict" and name not in others]


def check_recipes(
    recipes: Mapping[str, Recipe], templates: Mapping[str, Template], *, default: str
) -> None:
    """Check that the default recipe exists, and that every recipe has a template that fits.

    Raises:
        SetupError: naming the setting or the recipe, and the choices.
    """
    if default not in recipes:
        raise SetupError(f"MEDREWARD_RECIPE={default!r}; choose from {', '.join(recipes)}")
    for recipe in recipes.values():
        missing = [name for name in recipe.templates if name not in templates]
        if missing:
            raise SetupError(
                f"recipe {recipe.name!r}: no template {missing[0]!r}; "
                f"choose from {', '.join(templates)}"
            )
        wanted = recipe.judged.get("accuracy_llm")
        if wanted is not None and wanted not in (known := _about_an_answer(templates)):
            raise SetupError(
                f"recipe {recipe.name!r}: the signal accuracy_llm asks whether an answer is right, "
                f"and the template {wanted!r} does not; choose from {', '.join(known)}"
            )
