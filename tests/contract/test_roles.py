"""One service in several processes: the same numbers as in one, and no answer of another engine."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, NamedTuple

import httpx
import pytest

from medreward.app import create_app
from medreward.engines.embedder import Embedder
from medreward.engines.embedders.hashed import HashedEmbedder
from medreward.engines.embedders.peer import RoleEmbedder
from medreward.engines.judge import Inquiry, Judge, Judgement, View, is_sound
from medreward.engines.judges.peer import RoleJudge
from medreward.engines.judges.scripted import ScriptedJudge
from medreward.engines.templates import load_templates
from medreward.errors import BackendDown, NonsenseReply, Problem, ProblemKind, SetupError
from medreward.http.middleware import REPLIES_TO_MOVE_ON
from medreward.settings import Settings
from tests.conftest import RealEngines
from tests.contract.test_judge import LatinJudge
from tests.service.engines.judge_servers import SHORT_PAUSES
from tests.support.engines import TroubledEmbedder, raising
from tests.support.service import over_asgi

pytestmark = pytest.mark.anyio

SAID = "<X_RAY><thinking>hm</thinking><answer>{}</answer>"
PAIRS = [
    ("lower left lobe", "left lower lobe"),
    ("right lower lobe", "left lower lobe"),
    ("Pleural effusion", "pleural effusion"),
    ("a small pleural effusion on the left", "pleural effusion"),
    ("no fracture", "fracture of the femur"),
    ("", "left lower lobe"),
]


def sample(answer: str, reference: str) -> dict[str, Any]:
    """One sample in the published form."""
    return {"response": SAID.format(answer), "reference": reference, "modality": "X_RAY"}


BODY = {"samples": [sample(*pair) for pair in PAIRS]}


class Processes(NamedTuple):
    """An `api`, and behind it a `judge` and an `embed`, each an app of its own."""

    api: httpx.AsyncClient
    judge: httpx.AsyncClient
    embed: httpx.AsyncClient


@asynccontextmanager
async def app_client(
    settings: Settings, judge: Judge | None = None, embedder: Embedder | None = None
) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.ASGITransport]]:
    """An app that is loaded, and how to reach it."""
    app = create_app(settings, judge=judge, embedder=embedder)
    async with over_asgi(app) as client:
        yield client, httpx.ASGITransport(app, raise_app_exceptions=False)


def settings_of(role: str, **more: Any) -> Settings:
    """The settings of a process of this role."""
    held: dict[str, Any] = {"judge": {"judge": "scripted"}, "embed": {"embedder": "hashed"}}.get(
        role, {}
    )
    return Settings(**{"role": role, "recipe": "medix-r1", **held} | more)


@asynccontextmanager
async def api_of(
    judge: Judge | None = None, embedder: Embedder | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """A process of the role `api` with these engines."""
    engines = judge or ScriptedJudge(), embedder or HashedEmbedder()
    async with app_client(settings_of("api"), *engines) as (client, _):
        yield client


@asynccontextmanager
async def processes(
    judge: Judge | None = None, embedder: Embedder | None = None, **of_roles: Any
) -> AsyncIterator[Processes]:
    """The three of them; settings are those of the two that hold the engines."""
    async with (
        app_client(settings_of("judge", **of_roles), judge or ScriptedJudge()) as (one, to_judge),
        app_client(settings_of("embed", **of_roles), None, embedder or HashedEmbedder()) as (
            other,
            to_embed,
        ),
        api_of(
            RoleJudge("http://judge.localhost", transport=to_judge, timeout_s=120),
            RoleEmbedder("http://embed.localhost", transport=to_embed, timeout_s=120),
        ) as api,
    ):
        yield Processes(api, one, other)


def numbers(reply: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Every number of a reply, and where it came from."""
    return [
        (
            result["status"],
            result["reward"],
            *((p["value"], p["p_yes"], p["cosine"]) for p in result["components"].values()),
        )
        for result in reply["results"]
    ]


async def test_what_a_judge_can_read_is_known_in_other_processes() -> None:
    """Its process tells the characters of its tokenizer with its identity."""
    unread = [sample("气胸", "left lower lobe"), sample("left lung", "气胸")]
    body = {"samples": unread, "recipe": "medix-r1-guarded"}
    async with processes(LatinJudge(default="YES")) as split:
        reply = (await split.api.post("/reward", json=body)).json()

    wrong, unscored = reply["results"]
    assert wrong["components"]["accuracy_llm"]["rule"] == "unreadable"
    assert unscored["error"]["kind"] == "unreadable"


@pytest.mark.models
async def test_in_three_processes_the_rewards_are_those_of_one(real_engines: RealEngines) -> None:
    """To the last bit of every P(YES) and cosine, with the same provenance."""
    judge, embedder = real_engines.judge, real_engines.embedder
    async with app_client(settings_of("all"), judge, embedder) as (alone, _):
        in_one = (await alone.post("/reward", json=BODY)).json()
    async with processes(judge, embedder) as three:
        in_three = (await three.api.post("/reward", json=BODY)).json()
        again = (await three.api.post("/reward", json=BODY)).json()

    assert numbers(in_three) == numbers(in_one) == numbers(again)
    assert in_three["provenance"] == in_one["provenance"]
    assert in_three["counts"] == in_one["counts"]
    assert again["counts"]["judge_calls"] == 0


async def test_the_api_names_the_models_that_others_hold() -> None:
    """Readiness tells which engine answers, not only that another process does."""
    async with processes() as three:
        engines = (await three.api.get("/readyz")).json()["engines"]

    assert engines["judge"]["model"] == "scripted"
    assert engines["embedder"]["model"] == "hashed"


async def test_each_process_is_ready_by_its_own_engine_alone() -> None:
    """A judge that knows no embedder waits for none."""
    async with processes() as three:
        of_judge, of_embed = await three.judge.get("/readyz"), await three.embed.get("/readyz")

    assert (of_judge.status_code, list(of_judge.json()["engines"])) == (200, ["judge"])
    assert (of_embed.status_code, list(of_embed.json()["engines"])) == (200, ["embedder"])


async def test_processes_that_hold_an_engine_score_nothing() -> None:
    """Their port is for processes of ours."""
    async with processes() as three:
        replies = [await client.post("/reward", json=BODY) for client in (three.judge, three.embed)]

    assert [reply.status_code for reply in replies] == [404, 404]


class CountingJudge(ScriptedJudge):
    """A judge that takes a moment, and counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()

    async def decide(self, inquiries: Sequence[Inquiry]) -> Sequence[Judgement | Problem]:
        """Answer after a moment."""
        self.asked.update(inquiry.answer for inquiry in inquiries)
        await asyncio.sleep(0.02)
        return await super().decide(inquiries)


async def test_what_several_processes_ask_at_once_is_asked_once() -> None:
    """The judge's process has its own cache and batches."""
    judge = CountingJudge()
    async with (
        app_client(settings_of("judge"), judge) as (_, to_judge),
        api_of(RoleJudge("http://judge.localhost", transport=to_judge)) as one,
        api_of(RoleJudge("http://judge.localhost", transport=to_judge)) as two,
        api_of(RoleJudge("http://judge.localhost", transport=to_judge)) as three,
    ):
        judge.asked.clear()
        replies = await asyncio.gather(
            *(api.post("/reward", json=BODY) for api in (one, two, three))
        )

    assert len({str(numbers(reply.json())) for reply in replies}) == 1
    assert set(judge.asked.values()) == {1}


ABSTAINED = Problem(ProblemKind.JUDGE_ABSTAINED, "judge: it is not sure")


async def test_what_the_judge_leaves_open_is_unscored_with_its_reason() -> None:
    """A problem crosses processes as a value; its neighbours are scored."""
    judge = ScriptedJudge({("no fracture", "fracture of the femur"): ABSTAINED})
    async with processes(judge) as three:
        results = (await three.api.post("/reward", json=BODY)).json()["results"]

    assert [r["status"] for r in results] == ["scored"] * 4 + ["unscored", "scored"]
    assert results[4]["reward"] is None
    assert results[4]["error"] == {
        "kind": "judge_abstained",
        "message": "judge: it is not sure",
        "retryable": False,
    }


async def test_an_engine_that_dies_in_its_process_is_a_reason_and_no_zero() -> None:
    """The samples that needed it are unscored and may be sent again."""
    # It is warmed up by its own process, and by the api.
    embedder = TroubledEmbedder(raising(BackendDown("out of memory")), after=2)
    async with app_client(settings_of("embed"), None, embedder) as (_, to_embed):
        peer = RoleEmbedder("http://embed.localhost", transport=to_embed, timeout_s=120)
        async with api_of(embedder=peer) as api:
            result = (await api.post("/reward", json=BODY)).json()["results"][0]

    assert (result["status"], result["reward"]) == ("unscored", None)
    assert result["error"]["kind"] == "embedder_unreachable"
    assert result["error"]["retryable"]


class Replaceable(httpx.AsyncBaseTransport):
    """An address behind which another process may come to stand."""

    def __init__(self, to: httpx.AsyncBaseTransport) -> None:
        self.to = to

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Hand the request on."""
        return await self.to.handle_async_request(request)


async def test_another_engine_in_its_place_gives_no_number() -> None:
    """Its verdicts would be remembered as the first one's: it refuses, and the samples wait."""
    other = ScriptedJudge(default="YES")
    other.identity = "scripted:other"
    async with (
        app_client(settings_of("judge"), ScriptedJudge()) as (_, to_first),
        app_client(settings_of("judge"), other) as (_, to_other),
    ):
        address = Replaceable(to_first)
        peer = RoleJudge(
            "http://judge.localhost", transport=address, timeout_s=120, pauses=SHORT_PAUSES
        )
        async with api_of(peer) as api:
            address.to = to_other
            replies = [
                (await api.post("/reward", json={"samples": [sample(f"finding {n}", "effusion")]}))
                for n in range(4)
            ]
            ready = await api.get("/readyz")

    results = [reply.json()["results"][0] for reply in replies]
    assert {r["status"] for r in results} == {"unscored"}
    assert {r["error"]["kind"] for r in results} == {"judge_unreachable"}
    assert ready.status_code == 503


async def test_processes_with_different_engines_are_refused_at_the_start() -> None:
    """Which of them answers would depend on chance."""
    other = ScriptedJudge()
    other.identity = "scripted:other"
    async with (
        app_client(settings_of("judge"), ScriptedJudge()) as (_, to_first),
        app_client(settings_of("judge"), other) as (_, to_other),
    ):

        class ByHost(httpx.AsyncBaseTransport):
            async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
                chosen = {"first.localhost": to_first, "other.localhost": to_other}[
                    request.url.host
                ]
                return await chosen.handle_async_request(request)

        await check_refusal(
            RoleJudge("http://first.localhost", "http://other.localhost", transport=ByHost()),
            "hold different engines",
        )


async def check_refusal(judge: RoleJudge, told: str, error: type[Exception] = SetupError) -> None:
    """A judge that does not start, with this message."""
    async with aclosing(judge):
        with pytest.raises(error, match=told):
            await judge.start()


async def test_a_wrong_role_at_an_address_is_named() -> None:
    """An embedder is no judge."""
    async with app_client(settings_of("embed"), None, HashedEmbedder()) as (_, to_embed):
        judge = RoleJudge("http://embed.localhost", transport=to_embed)
        await check_refusal(judge, "MEDREWARD_JUDGE_URL.*role embed, not judge")


async def test_a_key_that_is_refused_is_named() -> None:
    """The message says which setting holds it."""
    settings = settings_of("judge", api_keys="inner")
    async with app_client(settings, ScriptedJudge()) as (_, to_judge):
        judge = RoleJudge("http://judge.localhost", transport=to_judge)
        await check_refusal(judge, "MEDREWARD_JUDGE_API_KEY")


async def test_what_is_too_much_for_one_body_goes_in_several() -> None:
    """Only what is too much alone has no answer."""
    long = "finding " * 400
    async with processes(max_body_bytes=2048) as three:
        asked = {"samples": [sample(f"finding {n}", "effusion") for n in range(30)]}
        asked["samples"].append(sample(long, "effusion"))
        results = (await three.api.post("/reward", json=asked)).json()["results"]

    assert [r["status"] for r in results] == ["scored"] * 30 + ["unscored"]
    assert results[30]["error"]["kind"] == "too_long"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/engine/judge", {"questions": [{"template": "match", "answer": "x"}]}),
        (
            "/engine/judge",
            {"questions": [{"template": "none", "answer": "x"}]}
            | {"identity": "scripted", "deadline_ms": 9},
        ),
        ("/engine/embed", {"identity": "hashed:256", "deadline_ms": 1, "texts": [1]}),
    ],
)
async def test_a_body_of_another_shape_is_refused(path: str, body: dict[str, Any]) -> None:
    """With a message that names the field and nothing of what it holds."""
    async with processes() as three:
        client = three.judge if path.endswith("judge") else three.embed
        refused = await client.post(path, json=body)

    assert refused.status_code == 422
    assert refused.json()["error"]["kind"] == "invalid_request"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"role": "api", "judge": "causal_lm"}, "MEDREWARD_ROLE=api holds no model"),
        ({"role": "judge", "judge": "role", "judge_url": "http://j"}, "holds the model itself"),
        ({"role": "api", "abstain": True}, "MEDREWARD_ABSTAIN: set it for the process"),
        ({"role": "api", "calibration": "off"}, "MEDREWARD_CALIBRATION: set it for the process"),
        ({"judge": "role", "llm": "openai", "llm_model": "m"}, "MEDREWARD_LLM: set it"),
    ],
)
def test_a_setting_in_the_wrong_process_is_refused(settings: dict[str, Any], told: str) -> None:
    """It would do nothing there, and nobody would see."""
    with pytest.raises(SetupError, match=told):
        create_app(Settings(**settings))


async def test_an_api_without_an_address_says_which_setting_it_needs() -> None:
    """Loading fails in words."""
    async with app_client(settings_of("api")) as (api, _):
        ready = await api.get("/readyz")

    assert ready.status_code == 503
    assert "MEDREWARD_EMBEDDER_URL" in ready.json()["engines"]["embedder"]["message"]


class OtherAnswers(httpx.AsyncBaseTransport):
    """A process that says what it holds, with some facts of its own, and answers something else."""

    def __init__(self, answer: object, **facts: Any) -> None:
        self._answer = answer
        self._facts = {
            "role": "judge",
            "service": "9",
            "model": "m",
            "identity": "i",
            "batch": 8,
            "concurrency": 1,
            "templates": {t.name: t.sha for t in load_templates().values()},
            **facts,
        }

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer as told."""
        reply = self._facts if request.method == "GET" else self._answer
        return httpx.Response(200, json=reply)


def inquiry() -> Inquiry:
    """Something to ask."""
    return Inquiry(load_templates()["match"], answer="effusion", reference="pleural effusion")


@pytest.mark.parametrize(
    "answer",
    [
        {"answers": [{"probabilities": [0.5]}]},
        {"answers": [{"probabilities": [2.0, -1.0]}]},
        {"answers": []},
        {"results": []},
    ],
)
async def test_nonsense_from_the_other_process_is_no_verdict(answer: object) -> None:
    """It is believed as little as any engine."""
    async with aclosing(
        RoleJudge("http://judge.localhost", transport=OtherAnswers(answer))
    ) as judge:
        await judge.start()
        try:
            answers = await judge.decide([inquiry()])
        except NonsenseReply:
            answers = []

    assert not any(isinstance(a, Judgement) and is_sound(a, inquiry()) for a in answers)


async def test_a_process_of_another_version_is_waited_for() -> None:
    """While an upgrade goes on, the two may differ in what they ask."""
    older = OtherAnswers([], service="0", templates={"match": "another"})
    told = "another version of the template 'match': upgrade both"

    await check_refusal(RoleJudge("http://judge.localhost", transport=older), told, BackendDown)


async def test_questions_that_the_prompt_does_not_show_make_no_difference() -> None:
    """Inquiries that differ in such a question alone are asked once, and each has the answer."""
    judge = ScriptedJudge(default="YES")
    asked: dict[str, Any] = {
        "template": "match",
        "answer": "effusion",
        "reference": "pleural effusion",
    }
    body = {
        "identity": judge.identity,
        "deadline_ms": 9000,
        "questions": [asked | {"question": question} for question in ("What?", "Where?", None)],
    }
    async with app_client(settings_of("judge"), judge) as (client, _):
        judge.batches.clear()
        reply = await client.post("/engine/judge", json=body)

    assert [answer["probabilities"] for answer in reply.json()["answers"]] == [[1.0, 0.0]] * 3
    assert [len(batch) for batch in judge.batches] == [1]


async def test_an_inquiry_arrives_whole_in_the_other_process() -> None:
    """Every text of it, the second of two answers too, and the view."""
    templates = load_templates()
    pair = Inquiry(templates["preference"], "good", "ref", "why", second="bad", view=View.SWAPPED)
    line = Inquiry(templates["rubric"], "good", question="why", criterion="Is kind.")
    judge = ScriptedJudge(default="YES")
    async with app_client(settings_of("judge"), judge) as (_, to_judge):
        peer = RoleJudge("http://judge.localhost", transport=to_judge)
        await peer.start()
        judge.batches.clear()
        await peer.decide([pair, line])
        await peer.aclose()

    assert [inquiry for batch in judge.batches for inquiry in batch] == [pair, line]


async def test_now_and_then_a_caller_is_asked_to_connect_anew() -> None:
    """Behind one address for several processes, one that was restarted would else stay unasked."""
    async with processes() as three:
        replies = [await three.judge.get("/engine") for _ in range(2 * REPLIES_TO_MOVE_ON)]
        probes = [await three.judge.get("/readyz") for _ in range(2 * REPLIES_TO_MOVE_ON)]

    closing = [reply.headers.get("Connection") == "close" for reply in replies]
    assert closing.count(True) == 2
    assert not any("Connection" in reply.headers for reply in probes)
