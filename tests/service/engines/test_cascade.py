"""Two engines as one judge: who answers what, and what the trouble of one costs the other."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from medreward.app import create_app
from medreward.engines.calibration import Calibration
from medreward.engines.capacity import Capacity
from medreward.engines.embedders.hashed import HashedEmbedder
from medreward.engines.judge import Inquiry, Judge, Judgement, View
from medreward.engines.judges.calibrated import CalibratedJudge
from medreward.engines.judges.cascade import Cascade, engine_for, engines_of, reader_for
from medreward.engines.judges.scripted import ScriptedJudge
from medreward.engines.registry import BuildContext, build_judge, check_choices
from medreward.engines.templates import Template, load_templates
from medreward.errors import BackendDown, EngineError, Problem, ProblemKind, SetupError
from medreward.settings import Settings
from medreward.telemetry.metrics import Metrics
from tests.conftest import Serve
from tests.support.calibration import entry
from tests.support.problems import problem
from tests.support.service import loaded

pytestmark = pytest.mark.anyio

TEMPLATES = load_templates()
MATCH, REPORT = TEMPLATES["match"], TEMPLATES["report"]
ASKED = Inquiry(MATCH, answer="left", reference="left lobe")
GRADED = Inquiry(REPORT, answer="left", reference="left lobe")
LATE = Problem(ProblemKind.JUDGE_TIMEOUT, "judge: late")
ABSTAINED = Problem(ProblemKind.JUDGE_ABSTAINED, "judge: P(YES) 0.6 lies between 0.4 and 0.8")


def p(p_yes: float) -> Judgement:
    """A verdict."""
    return Judgement(("YES", "NO"), (p_yes, 1 - p_yes))


class Engine(ScriptedJudge):
    """An engine of a name, that understands some templates, and is down when told so."""

    def __init__(
        self, name: str, *, default: Any = None, templates: Sequence[str] = tuple(TEMPLATES)
    ) -> None:
        super().__init__(default=default)
        self.identity = name
        self.templates = templates
        self.error: Exception | None = None
        self.life: list[str] = []

    def can_answer(self, template: Template) -> bool:
        """Some it can."""
        return template.name in self.templates

    async def start(self) -> None:
        """Note it."""
        self.life.append("started")

    async def decide(self, inquiries: Sequence[Inquiry]) -> Sequence[Judgement | Problem]:
        """Answer, or fail."""
        if self.error is not None:
            raise self.error
        return await super().decide(inquiries)

    async def aclose(self) -> None:
        """Note it."""
        self.life.append("closed")


class ReadsAscii(Engine):
    """An engine whose tokenizer knows ASCII alone."""

    characters = frozenset[str]()

    def can_read(self, text: str) -> bool:
        """Return whether a text is ASCII."""
        return text.isascii()


def pair(first: Any = None, second: Any = None) -> tuple[Engine, Engine]:
    """A verifier and a language model that say always the same."""
    return (
        Engine("verifier", default=first, templates=("match", "equivalence")),
        Engine("llm", default=second),
    )


def count(metrics: Metrics, name: str, **labels: str) -> float:
    """Read a counter."""
    return metrics.registry.get_sample_value(name, labels) or 0.0


async def test_each_engine_answers_the_templates_that_suit_it() -> None:
    """The first wherever it can; the answers come in the order of the inquiries."""
    first, second = pair(p(0.9))
    metrics = Metrics()
    judge = Cascade(first, second, metrics=metrics)

    told = await judge.decide([GRADED, ASKED, GRADED])

    labels = [t.labels for t in told if isinstance(t, Judgement)]
    assert labels == [REPORT.labels, MATCH.labels, REPORT.labels]
    assert (list(first.batches), list(second.batches)) == ([[ASKED]], [[GRADED, GRADED]])
    assert count(metrics, "medreward_cascade_inquiries_total", answered_by="first") == 1
    assert count(metrics, "medreward_cascade_inquiries_total", answered_by="second") == 2


async def test_the_view_of_the_other_engine_is_the_seconds() -> None:
    """Whatever the first would have said, and also if the second cannot answer."""
    first, second = pair(p(0.9), p(0.1))
    other = ASKED._replace(view=View.OTHER_ENGINE)

    told = await Cascade(first, second).decide([ASKED, other])
    kept, refused = await Cascade(first, Engine("llm", templates=())).decide([ASKED, other])

    assert [*told] == [p(0.9), p(0.1)]
    assert list(second.batches) == [[other]]
    assert kept == p(0.9)
    problem(refused, ProblemKind.JUDGE_REFUSED)


def by(told: Sequence[Judgement | Problem]) -> list[str | None]:
    """Return the engine of each judgement."""
    return [answer.answered_by for answer in told if isinstance(answer, Judgement)]


@pytest.mark.parametrize(
    ("escalates", "expected"), [(True, ["first", "second"]), (False, ["first"] * 2)]
)
async def test_what_does_not_suit_the_first_goes_to_the_second(
    escalates: bool, expected: list[str]
) -> None:
    """In a cascade the second engine judges sentences, and each judgement names its engine."""
    first, second = pair(p(0.9), p(0.1))
    judge = Cascade(first, second, escalates=escalates, only_terms=True)

    told = await judge.decide([ASKED, ASKED._replace(answer="It is the left lobe.")])

    assert by(told) == expected


async def test_what_the_first_cannot_read_goes_to_the_second() -> None:
    """A verifier knows fewer characters than a language model, and the cascade reads what either does."""
    _, second = pair(p(0.9), p(0.1))
    reader = ReadsAscii("verifier", default=p(0.9))
    judge = Cascade(reader, second, escalates=True)
    beside = Cascade(reader, second)
    unreadable = ASKED._replace(answer="\u80ba\u764c")

    assert by(await judge.decide([ASKED, unreadable])) == ["first", "second"]
    assert reader_for(judge, MATCH)(unreadable.answer)
    assert not reader_for(beside, MATCH)(unreadable.answer)


async def test_the_time_of_each_engine_is_counted() -> None:
    """An engine that was asked nothing took no time."""
    first, second = pair(p(0.9), p(0.1))
    metrics = Metrics()

    await Cascade(first, second, escalates=True, metrics=metrics).decide([ASKED])

    assert count(metrics, "medreward_cascade_seconds_total", answered_by="first") > 0
    assert count(metrics, "medreward_cascade_seconds_total", answered_by="second") == 0


@pytest.mark.parametrize(
    ("said", "escalates", "told"),
    [(ABSTAINED, True, p(0.1)), (ABSTAINED, False, ABSTAINED), (LATE, True, LATE)],
)
async def test_what_the_first_abstains_from_goes_to_the_second(
    said: Problem, escalates: bool, told: Judgement | Problem
) -> None:
    """In a cascade alone; what is late, or too long, is no question of being sure."""
    first, second = pair(said, p(0.1))

    assert [*await Cascade(first, second, escalates=escalates).decide([ASKED])] == [told]
    assert len(second.batches) == (told is not said)


@pytest.mark.parametrize("broken", ["first", "second"])
async def test_an_engine_that_fails_costs_only_what_needed_it(broken: str) -> None:
    """The other's answers stand."""
    first, second = pair(p(0.9))
    (first if broken == "first" else second).error = BackendDown("gone")

    by_first, by_second = await Cascade(first, second).decide([ASKED, GRADED])

    told = {"first": by_first, "second": by_second}
    problem(told.pop(broken), ProblemKind.JUDGE_UNREACHABLE)
    assert all(isinstance(answer, Judgement) for answer in told.values())


async def test_a_second_engine_that_is_down_costs_what_was_escalated() -> None:
    """Those may be sent again; what the first was sure of is answered."""
    first, second = pair(ABSTAINED)
    first._script[("sure", "left lobe")] = p(0.9)  # noqa: SLF001 - the stand-in's own
    second.error = BackendDown("gone")
    judge = Cascade(first, second, escalates=True)

    lost, kept = await judge.decide([ASKED, ASKED._replace(answer="sure")])

    assert problem(lost, ProblemKind.JUDGE_UNREACHABLE).retryable
    assert kept == p(0.9)


@pytest.mark.parametrize(
    ("inquiries", "broken"),
    [([ASKED], "first"), ([GRADED], "second"), ([ASKED, GRADED], "first second")],
)
async def test_where_nothing_is_answered_the_loss_is_noticed(
    inquiries: list[Inquiry], broken: str
) -> None:
    """As with an engine alone."""
    first, second = pair()
    for name, engine in (("first", first), ("second", second)):
        engine.error = BackendDown("gone") if name in broken else None

    with pytest.raises(EngineError):
        await Cascade(first, second).decide(inquiries)


async def test_an_error_that_is_no_engines_is_not_hidden() -> None:
    """The pipeline looks for the question that causes it."""
    first, second = pair(p(0.9))
    second.error = ZeroDivisionError()

    with pytest.raises(ZeroDivisionError):
        await Cascade(first, second).decide([ASKED, GRADED])


async def test_what_the_slow_engine_does_not_answer_in_time_is_late() -> None:
    """The other's answers are not lost with it."""

    class Slow(Engine):
        async def decide(self, inquiries: Sequence[Inquiry]) -> Sequence[Judgement | Problem]:
            await asyncio.sleep(60)
            raise AssertionError

    first, _ = pair(p(0.9))
    kept, late = await Cascade(first, Slow("llm"), timeout_s=0.01).decide([ASKED, GRADED])

    assert kept == p(0.9)
    problem(late, ProblemKind.JUDGE_TIMEOUT)


# The shadow.


async def shadowed(
    share: float, number: int, second: Judgement | Exception
) -> tuple[Engine, Metrics]:
    """Put sure answers through a cascade, and wait for what is measured beside it."""
    first, llm = pair(p(0.9), second)
    llm.error = second if isinstance(second, Exception) else None
    metrics = Metrics()
    judge = Cascade(first, llm, escalates=True, shadow=share, metrics=metrics)
    told = await judge.decide([ASKED._replace(answer=f"answer {n}") for n in range(number)])
    assert [*told] == [p(0.9)] * number
    for _ in range(3):
        await asyncio.sleep(0)
    await judge.aclose()
    return llm, metrics


@pytest.mark.parametrize(("second", "agrees"), [(p(0.8), "yes"), (p(0.2), "no")])
async def test_a_share_of_what_is_sure_shows_how_often_they_agree(
    second: Judgement, agrees: str
) -> None:
    """The same share each time, chosen by the inquiry."""
    llm, metrics = await shadowed(0.2, 500, second)
    again, _ = await shadowed(0.2, 500, second)

    asked = len(llm.batches[0])
    assert list(llm.batches) == list(again.batches)
    assert 60 <= asked <= 140
    assert count(metrics, "medreward_cascade_agreement_total", agrees=agrees) == asked


@pytest.mark.parametrize(("share", "asked"), [(0.0, 0), (1.0, 50)])
async def test_the_share_may_be_none_or_all(share: float, asked: int) -> None:
    """Who wants no measuring sets it to 0."""
    llm, _ = await shadowed(share, 50, p(0.8))

    assert sum(map(len, llm.batches)) == asked


async def test_a_shadow_that_fails_costs_nothing() -> None:
    """Nobody waits for it, and nothing is counted."""
    _, metrics = await shadowed(1.0, 1, RuntimeError("left lobe"))

    assert count(metrics, "medreward_cascade_agreement_total", agrees="yes") == 0


# As one judge.


async def test_both_are_started_and_closed() -> None:
    """Also where the first cannot be closed in peace."""
    first, second = pair()
    judge = Cascade(first, second)

    await judge.start()
    await judge.aclose()

    assert first.life == second.life == ["started", "closed"]


async def test_the_identity_holds_both_and_whether_one_asks_the_other() -> None:
    """Either changes what would be answered; how much is measured does not."""
    first, second = pair()

    assert Cascade(first, second).identity == "beside[verifier][llm]"
    assert Cascade(first, second, escalates=True).identity == "cascade[verifier][llm]"
    assert Cascade(first, second, shadow=0.5).identity == Cascade(first, second).identity


async def test_the_capacity_suits_both() -> None:
    """A batch as large as either likes, within the tokens of the one that counts them."""
    first, second = pair()
    first.capacity, second.capacity = Capacity(64), Capacity(16, concurrency=8, tokens=4096)

    assert Cascade(first, second).capacity == Capacity(64, concurrency=8, tokens=4096)


async def test_what_is_behind_a_judge_can_be_told() -> None:
    """For those who look at an engine itself, and for whom a template is answered by."""
    first, second = pair()
    judge = Cascade(first, second)

    assert [*engines_of(judge)] == [first, second]
    assert [*engines_of(first)] == [first]
    assert engine_for(judge, MATCH) is first
    assert engine_for(judge, REPORT) is second
    assert engine_for(second, MATCH) is second
    assert judge.can_answer(REPORT)


# From the settings.


def built(**given: Any) -> Judge:
    """What `build_judge` makes of settings, with engines that need no model."""
    with ThreadPoolExecutor(1) as worker:
        return build_judge(BuildContext(Settings(judge="scripted", **given), worker))


def written(folder: Path, *, engine: str = "scripted") -> Path:
    """A calibration file with one entry."""
    file = folder / "calibration.json"
    file.write_text(Calibration(entries=(entry(engine=engine),)).model_dump_json(), "utf-8")
    return file


async def test_the_settings_say_what_stands_around_an_engine(tmp_path: Path) -> None:
    """Nothing, a calibration, another engine, or both."""
    file = written(tmp_path)

    both = built(llm="scripted", calibration=file, cascade=True)

    assert isinstance(built(), ScriptedJudge)
    assert isinstance(built(calibration="off"), ScriptedJudge)
    assert isinstance(built(calibration=file), CalibratedJudge)
    assert isinstance(built(llm="scripted"), Cascade)
    assert isinstance(both, Cascade)
    assert isinstance(both.first, CalibratedJudge)
    assert both.identity.startswith("cascade[scripted+abstains+calibration:")
    assert "+abstains" not in built(calibration=file, abstain=False).identity


@pytest.mark.parametrize("given", [{"llm": "scripted", "cascade": True}, {"abstain": True}])
async def test_a_judge_that_nobody_calibrated_cannot_abstain(
    tmp_path: Path, given: dict[str, Any]
) -> None:
    """The service does not start; a calibration of another judge is none, whoever names the file."""
    for calibration in ({}, {"calibration": written(tmp_path, engine="another")}):
        with pytest.raises(SetupError, match=r"holds nothing.*MEDREWARD_CALIBRATION"):
            await built(**given, **calibration).start()


@pytest.mark.parametrize("llm", ["cross_encoder", "oracle"])
def test_only_what_reads_instructions_stands_beside_a_judge(llm: str) -> None:
    """A classifier could answer nothing more."""
    with pytest.raises(SetupError, match=f"MEDREWARD_LLM='{llm}'; choose from causal_lm, vllm"):
        check_choices(Settings(judge="scripted", llm=llm))


async def test_readiness_names_both_and_asks_both(serve: Serve) -> None:
    """The language model is asked for a grade before anybody needs one."""
    first, second = pair(p(0.9))
    async with serve(judge=Cascade(first, second), llm="scripted", llm_model="small") as client:
        ready = (await client.get("/readyz")).json()
        metrics = (await client.get("/metrics")).text

    assert ready["engines"]["judge"]["model"] == "scripted, small"
    assert [inquiry.template.name for inquiry in second.batches[0]] == ["report"]
    assert 'role="llm"' in metrics


async def test_a_judge_that_abstains_at_its_warm_up_is_well(serve: Serve) -> None:
    """It has looked, and need not be sure."""
    async with serve(judge=ScriptedJudge(default=ABSTAINED)) as client:
        assert (await client.get("/readyz")).status_code == 200


async def test_a_language_model_that_is_broken_is_seen_at_the_start() -> None:
    """The service does not wait for the first report to find out."""
    broken = Problem(ProblemKind.JUDGE_UNPARSEABLE, "judge: nothing readable")
    first, second = pair(p(0.9), broken)
    app = create_app(Settings(), judge=Cascade(first, second), embedder=HashedEmbedder())
    async with app.router.lifespan_context(app):
        readiness = (await loaded(app)).engines.readiness

    assert readiness.status == "failed"
    assert "nothing readable" in readiness.engines["judge"].message
