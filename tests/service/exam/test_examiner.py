"""The exam at a service's start: whom it examines and when, and who is told of the outcome."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from medreward.app import create_app
from medreward.engines.embedders.hashed import HashedEmbedder
from medreward.engines.judge import Inquiry, Judge, Judgement
from medreward.engines.judges.peer import RoleJudge
from medreward.engines.judges.scripted import Line, ScriptedJudge
from medreward.engines.supervisor import WARM_UP_TEXT
from medreward.errors import BackendDown, NotReady, Problem, ProblemKind
from medreward.exam.examiner import BATCH, Examiner, Pauses, take_exam
from medreward.exam.result import exam_pairs
from medreward.service import Service
from medreward.settings import Settings
from medreward.telemetry.metrics import Metrics
from tests.redis_servers import RedisServer
from tests.service.engines.test_cross_encoder import save
from tests.support.engines import Held, TroubledJudge
from tests.support.service import over_asgi
from tests.support.wait import until

pytestmark = pytest.mark.anyio

PAIRS = exam_pairs("answers")
WARM_UP = (WARM_UP_TEXT, WARM_UP_TEXT)
KEY: Mapping[tuple[str, str | None], Line] = {
    (pair.answer, pair.reference): pair.due for pair in exam_pairs("terms")
}
SAMPLE = {"response": "<answer>basal left</answer>", "reference": "left lower lobe"}
SHORT = Pauses(look_s=0.001, longest_wait_s=0.01, first_retry_s=0.001, longest_retry_s=0.01)


def sound() -> ScriptedJudge:
    """A judge that gets every pair."""
    return ScriptedJudge({WARM_UP: "YES", **KEY})


def credulous() -> ScriptedJudge:
    """A judge that says YES to everything."""
    return ScriptedJudge(default="YES")


def settings(**given: Any) -> Settings:
    """The settings of a service with an exam."""
    chosen = {"judge": "scripted", "embedder": "hashed", "recipe": "medix-r1", "exam": "on"}
    return Settings(**chosen | given)


@asynccontextmanager
async def serving(judge: Judge | None = None, /, **given: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A service whose engines are loaded, and a client of it."""
    app = create_app(settings(**given), judge=judge or sound(), embedder=HashedEmbedder())
    async with over_asgi(app) as client:
        yield client


async def exam_of(client: httpx.AsyncClient) -> dict[str, Any] | None:
    """The exam as `/readyz` tells it."""
    exam: dict[str, Any] | None = (await client.get("/readyz")).json()["judge_exam"]
    return exam


async def ended(client: httpx.AsyncClient) -> dict[str, Any]:
    """The exam once it has ended."""
    exam: dict[str, Any] = {}

    async def has_ended() -> bool:
        exam.update(await exam_of(client) or {})
        return exam.get("status") not in {None, "running"}

    await until(has_ended)
    return exam


def asked_of(judge: ScriptedJudge) -> list[list[Inquiry]]:
    """The batches that a judge was asked, without those of its warm-up."""
    return [batch for batch in judge.batches if batch[0].answer != WARM_UP_TEXT]


@asynccontextmanager
async def loaded_service(judge: Judge) -> AsyncIterator[Service]:
    """A service with loaded engines that answers no requests."""
    service = Service(settings(), judge=judge)
    try:
        await service.load()
        yield service
    finally:
        await service.aclose()


def examiner(*, is_busy: Callable[[], bool] = lambda: False, is_required: bool = False) -> Examiner:
    """An examiner that hardly pauses."""
    return Examiner(
        Metrics(), is_required=is_required, is_busy=is_busy, deadline_s=60, pauses=SHORT
    )


async def test_the_judge_is_asked_once_and_without_rules() -> None:
    """`check --exam` puts each pair as one inquiry, with its question, in batches of the judge's size."""
    judge = ScriptedJudge(default="YES", batch=16)
    async with loaded_service(judge) as service:
        result = await take_exam(service.examinee, 60)
    batches = asked_of(judge)

    assert [len(batch) for batch in batches] == [16, 16, 16, 12]
    asked = [(i.template.name, i.question, i.reference, i.answer) for b in batches for i in b]
    assert sorted(asked) == sorted(
        ("equivalence", pair.question, pair.reference, pair.answer) for pair in PAIRS
    )
    assert [mark.verdict for mark in result.marks] == ["YES"] * 60


async def test_a_problem_is_no_wrong_verdict() -> None:
    """A pair without a verdict keeps its problem."""
    late = Problem(ProblemKind.JUDGE_TIMEOUT, "judge: too late")
    async with loaded_service(ScriptedJudge({WARM_UP: "YES"}, default=late)) as service:
        result = await take_exam(service.examinee, 60)

    assert {(mark.verdict, mark.problem) for mark in result.marks} == {
        (None, ProblemKind.JUDGE_TIMEOUT)
    }


async def test_the_exam_is_told_by_readiness_replies_and_a_metric() -> None:
    """Each has the status, what was examined, and the balanced accuracy."""
    async with serving() as client:
        exam = await ended(client)
        reward = (await client.post("/reward", json={"samples": [SAMPLE]})).json()
        item = {"answer": "left", "reference": "right"}
        grade = (await client.post("/judge", json={"items": [item]})).json()
        families = text_string_to_metric_families((await client.get("/metrics")).text)
        (gauge,) = [f for f in families if f.name == "medreward_judge_exam"]

    assert exam == {"status": "passed", "scope": "answers", "balanced_accuracy": 1.0}
    assert reward["provenance"]["judge_exam"] == grade["provenance"]["judge_exam"] == exam
    (point,) = gauge.samples
    assert (point.labels, point.value) == ({"scope": "answers", "status": "passed"}, 1.0)


async def test_the_service_is_ready_while_the_exam_runs() -> None:
    """Rewards are given, and their provenance tells of no exam yet."""
    held = Held()
    async with serving(TroubledJudge(held)) as client:
        await held.is_asked.wait()
        ready = await client.get("/readyz")
        equal = {"response": "<answer>Left lung</answer>", "reference": "left lung"}
        # Guarded recipes settle what is equal without the judge, which is held.
        body = {"samples": [equal], "recipe": "medix-r1-guarded"}
        reply = await client.post("/reward", json=body)
        held.may_answer.set()
        exam = await ended(client)

    assert ready.status_code == 200
    assert ready.json()["judge_exam"]["status"] == "running"
    assert reply.json()["provenance"]["judge_exam"] is None
    assert exam["status"] == "failed"


async def test_pairs_are_asked_a_few_at_a_time() -> None:
    """A request that comes meanwhile waits for one small batch."""
    judge = sound()
    async with serving(judge) as client:
        await ended(client)

    assert {len(batch) for batch in asked_of(judge)} == {BATCH}


async def test_the_exam_waits_for_requests_but_not_for_ever() -> None:
    """While requests are in flight it looks again, and goes on after its longest wait."""
    looks: Counter[str] = Counter()

    def is_busy() -> bool:
        looks["all"] += 1
        return True

    async with loaded_service(sound()) as service:
        behind = examiner(is_busy=is_busy)
        await behind.examine(service.examinee)

    assert behind.known is not None
    assert looks["all"] >= len(PAIRS) / BATCH


async def test_a_judge_below_the_floor_is_warned_of_in_words() -> None:
    """Once, with what it gets wrong; the service goes on."""
    with structlog.testing.capture_logs() as lines:
        async with serving(credulous()) as client:
            exam = await ended(client)
            ready = await client.get("/readyz")
    (told,) = [line for line in lines if line["event"].startswith("judge_exam")]

    assert exam == {"status": "failed", "scope": "answers", "balanced_accuracy": 0.5}
    assert ready.status_code == 200
    assert (told["event"], told["log_level"]) == ("judge_exam_failed", "warning")
    assert told["advice"].startswith(
        "This judge says YES to 30 of 30 wrong answers, such as an unre"
    )


async def test_what_a_verifier_cannot_read_is_told() -> None:
    """One without a language model is examined in terms; its faults in whole answers are named."""
    terms = [pair for pair in exam_pairs("terms") if pair.scope == "terms"]
    script: dict[tuple[str, str | None], Line] = {(p.answer, p.reference): p.due for p in terms}
    judge = ScriptedJudge(script, default="YES")
    with structlog.testing.capture_logs() as lines:
        async with serving(judge, judge="cross_encoder") as client:
            exam = await ended(client)
    (told,) = [line for line in lines if line["event"].startswith("judge_exam")]

    assert exam == {"status": "passed", "scope": "terms", "balanced_accuracy": 1.0}
    assert told["event"] == "judge_exam_passed"
    assert told["of_whole_answers_it"].startswith(
        "says YES to 30 of 30 wrong answers, such as an unrelated sent"
    )


@pytest.mark.parametrize(
    ("given", "is_stand_in", "is_examined"),
    [
        ({"exam": "auto"}, False, False),  # a scripted judge
        ({"exam": "auto", "judge": "causal_lm"}, True, False),
        ({"exam": "off"}, False, False),
        ({"exam": "on"}, False, True),
        ({"exam": "on"}, True, True),
        ({"exam": "require"}, True, True),
    ],
)
async def test_a_stand_in_is_examined_only_if_asked_for(
    given: dict[str, str], *, is_stand_in: bool, is_examined: bool
) -> None:
    """By default neither a scripted judge is, nor one that a program puts in place of the settings'."""
    app = create_app(
        settings(**given), judge=sound() if is_stand_in else None, embedder=HashedEmbedder()
    )
    async with over_asgi(app) as client:
        # The exam begins in the step that makes the service ready.
        exam = await exam_of(client)

    assert (exam is not None) is is_examined


@pytest.mark.xdist_group("models")
async def test_a_model_in_this_process_is_examined_unasked(tmp_path: Path) -> None:
    """By the default of the setting; a classifier without a language model is examined in terms."""
    model = str(save(tmp_path))
    chosen = Settings(judge="cross_encoder", judge_model=model, embedder="hashed")
    async with over_asgi(create_app(chosen)) as client:
        exam = await ended(client)

    assert (exam["status"], exam["scope"]) == ("failed", "terms")


class AwayAtFirst(ScriptedJudge):
    """A judge that gets every pair, once it has failed some batches of the exam."""

    def __init__(self, failures: int) -> None:
        super().__init__({WARM_UP: "YES", **KEY})
        self._failures = failures

    async def decide(self, inquiries: Sequence[Inquiry]) -> Sequence[Judgement | Problem]:
        """Fail, or answer."""
        is_exam = inquiries[0].answer != WARM_UP_TEXT
        if is_exam and self._failures:
            self._failures -= 1
            raise BackendDown("refused")
        return await super().decide(inquiries)


async def test_an_exam_without_a_result_is_told_and_repeated() -> None:
    """A judge that is away has not failed; what it answered is not asked again."""
    judge = AwayAtFirst(failures=10)
    with structlog.testing.capture_logs() as lines:
        async with loaded_service(judge) as service:
            patient = examiner(is_required=True)
            await patient.examine(service.examinee)
    told = [line for line in lines if line["event"].startswith("judge_exam")]

    assert [line["event"] for line in told] == ["judge_exam_without_result", "judge_exam_passed"]
    assert told[0]["unanswered"] == {ProblemKind.JUDGE_UNREACHABLE: 40}
    assert sum(map(len, asked_of(judge))) == len(PAIRS)
    assert patient.status == "ready"


async def test_an_exam_that_cannot_have_a_result_is_told_and_ends() -> None:
    """A judge that refuses would refuse again; it is unfit only where the exam is required."""
    refusal = Problem(ProblemKind.JUDGE_REFUSED, "judge: no")
    async with serving(ScriptedJudge({WARM_UP: "YES"}, default=refusal)) as client:
        exam = await ended(client)
        ready = await client.get("/readyz")

    assert exam == {"status": "no_result", "scope": "answers", "balanced_accuracy": None}
    assert ready.status_code == 200


async def test_a_required_exam_keeps_the_service_unready_until_it_is_passed() -> None:
    """Requests are refused meanwhile, and may be sent again."""
    held = Held()
    async with serving(TroubledJudge(held), exam="require") as client:
        await held.is_asked.wait()
        waiting = await client.get("/readyz")
        refused = await client.post("/reward", json={"samples": [SAMPLE]})
    async with serving(exam="require") as client:
        await ended(client)
        passed = await client.get("/readyz")
        scored = await client.post("/reward", json={"samples": [SAMPLE]})

    assert (waiting.status_code, waiting.json()["status"]) == (503, "loading")
    assert waiting.json()["engines"]["judge"]["ready"]
    error = refused.json()["error"]
    assert (refused.status_code, error["kind"], error["retryable"]) == (503, "not_ready", True)
    assert error["message"] == "the judge takes the exam that MEDREWARD_EXAM requires"
    assert (passed.status_code, scored.status_code) == (200, 200)


async def test_a_judge_that_fails_a_required_exam_scores_nothing() -> None:
    """Readiness says failed, and requests are told what the judge gets wrong."""
    async with serving(credulous(), exam="require") as client:
        await ended(client)
        ready = await client.get("/readyz")
        refused = await client.post("/reward", json={"samples": [SAMPLE]})

    assert (ready.status_code, ready.json()["status"]) == (503, "failed")
    assert refused.status_code == 503
    assert refused.json()["error"]["message"].startswith(
        "the judge's exam was failed with 0.500 (MEDREWARD_EXAM=require). This judge says YES to "
    )


@pytest.mark.xdist_group("redis")
async def test_judgements_in_redis_are_not_asked_again(redis_server: RedisServer) -> None:
    """A second start of the same judge finds its exam answered."""
    first, second = sound(), sound()
    for judge in (first, second):
        async with serving(judge, redis_url=redis_server.url, redis_timeout_s=10) as client:
            exam = await ended(client)
            assert exam["status"] == "passed"

    assert sum(map(len, asked_of(first))) == len(PAIRS)
    assert asked_of(second) == []


@asynccontextmanager
async def two_processes(of_judge: str, of_api: str) -> AsyncIterator[httpx.AsyncClient]:
    """An `api`, and behind it the process that holds the judge, with one exam setting each."""
    holder = create_app(settings(role="judge", exam=of_judge), judge=sound())
    async with over_asgi(holder) as client:
        if of_judge == "on":
            await ended(client)
        transport = httpx.ASGITransport(holder, raise_app_exceptions=False)
        judge = RoleJudge("http://judge.localhost", transport=transport, timeout_s=60)
        api = create_app(
            Settings(role="api", recipe="medix-r1", exam=of_api),
            judge=judge,
            embedder=HashedEmbedder(),
        )
        async with over_asgi(api) as client_of_api:
            yield client_of_api


async def test_an_api_tells_the_exam_of_its_judges_process() -> None:
    """It asks for the figure, not for judgements."""
    async with two_processes("on", "auto") as api:
        exam = await exam_of(api)
        reply = (await api.post("/reward", json={"samples": [SAMPLE]})).json()

    assert exam == {"status": "passed", "scope": "answers", "balanced_accuracy": 1.0}
    assert reply["provenance"]["judge_exam"] == exam


async def test_an_api_that_requires_an_exam_needs_one_in_the_judges_process() -> None:
    """It takes none itself, and says where to set it."""
    async with two_processes("off", "require") as api:
        refused = await api.post("/reward", json={"samples": [SAMPLE]})

    assert refused.status_code == 503
    assert refused.json()["error"]["message"] == (
        "the judge's process takes no exam: set MEDREWARD_EXAM=on there"
    )


async def test_an_api_asks_again_until_the_exam_has_ended() -> None:
    """The judge's process is ready before its exam is over."""
    held = Held()
    holder = create_app(settings(role="judge"), judge=TroubledJudge(held))
    async with over_asgi(holder):
        await held.is_asked.wait()
        transport = httpx.ASGITransport(holder, raise_app_exceptions=False)
        judge = RoleJudge("http://judge.localhost", transport=transport, timeout_s=60)
        await judge.start()
        follower = examiner(is_required=True)
        following = asyncio.create_task(follower.follow(judge))
        await until(lambda: follower.exam is not None)
        with pytest.raises(NotReady):
            follower.check_passed()
        held.may_answer.set()
        await following
        await judge.aclose()

    assert follower.known is not None
    assert (follower.known.status, follower.status) == ("failed", "failed")
