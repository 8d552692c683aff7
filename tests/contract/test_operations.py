"""Routes around scoring: liveness, readiness, recipes, metrics, version, keys and request ids."""

import asyncio
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

import medreward
from medreward.app import create_app
from medreward.engines.embedders.hashed import HashedEmbedder
from medreward.engines.judge import Inquiry, Judgement
from medreward.engines.judges.scripted import ScriptedJudge
from medreward.engines.supervisor import LIMITS_WITHOUT_LLM
from medreward.engines.templates import Template
from medreward.errors import BackendDown, Problem, SetupError
from medreward.lifecycle import LATE_S
from medreward.settings import Settings
from tests.conftest import Serve
from tests.support.engines import TroubledJudge, raising
from tests.support.service import loaded, over_asgi
from tests.support.wait import until

pytestmark = pytest.mark.anyio

BODY = {"samples": [{"response": "<answer>basal left</answer>", "reference": "left lower lobe"}]}


async def test_livez_answers_and_readyz_says_ready(serve: Serve) -> None:
    """A service that is loaded is alive and ready, and names its models."""
    async with serve() as client:
        alive, ready = await client.get("/livez"), await client.get("/readyz")

    assert (alive.status_code, alive.json()) == (200, {"status": "alive"})
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    judge = {"ready": True, "model": "scripted", "message": "ready"}
    assert ready.json()["engines"]["judge"] == judge


async def is_ready(client: httpx.AsyncClient) -> bool:
    """Whether a probe would be told that the service is ready."""
    return (await client.get("/readyz")).status_code == 200


async def judge_says(reason: str, client: httpx.AsyncClient) -> bool:
    """Whether the service says this of why its judge is not ready."""
    return reason in (await client.get("/readyz")).json()["engines"]["judge"]["message"]


class MortalJudge(ScriptedJudge):
    """A judge whose server can be stopped and started."""

    is_down = False

    async def decide(self, inquiries: Sequence[Inquiry]) -> Sequence[Judgement | Problem]:
        """Answer while it lives."""
        if self.is_down:
            raise BackendDown("refused")
        return await super().decide(inquiries)


async def test_while_loading_the_service_lives_but_does_not_score() -> None:
    """Until the warm-up verdict, readyz and reward say 503 and which engine is waited for."""
    judge = TroubledJudge(raising(BackendDown("refused")), after=0)
    app = create_app(Settings(), judge=judge, embedder=HashedEmbedder())
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://localhost"
        ) as client,
    ):
        await until(lambda: judge_says("refused", client))
        alive, ready = await client.get("/livez"), await client.get("/readyz")
        refused = await client.post("/reward", json=BODY)

    assert alive.status_code == 200
    assert (ready.status_code, ready.json()["status"]) == (503, "loading")
    assert ready.json()["engines"]["judge"]["message"] == "refused"
    error = refused.json()["error"]
    assert (refused.status_code, error["kind"], error["retryable"]) == (503, "not_ready", True)
    assert "judge: refused" in error["message"]


async def test_an_engine_that_goes_is_missed_and_its_return_noticed(serve: Serve) -> None:
    """Readyz stops being ready, scoring goes on with reasons, and no restart is needed."""
    judge = MortalJudge()
    async with serve(judge=judge) as client:
        judge.is_down = True
        lost = [(await client.post("/reward", json=BODY)).json()["results"][0] for _ in range(3)]
        while_down = await client.get("/readyz")
        still = await client.post("/reward", json=BODY)
        judge.is_down = False
        await until(lambda: is_ready(client))
        found = (await client.post("/reward", json=BODY)).json()["results"][0]

    assert {result["error"]["kind"] for result in lost} == {"judge_unreachable"}
    assert (while_down.status_code, while_down.json()["status"]) == (503, "failed")
    assert "refused" in while_down.json()["engines"]["judge"]["message"]
    assert while_down.json()["engines"]["embedder"]["ready"]
    assert still.status_code == 200
    assert found["status"] == "scored"


REMOTE: dict[str, Any] = {"role": "api"}


@pytest.mark.parametrize(
    ("settings", "status", "code"),
    [
        (REMOTE, "failed", 503),
        (REMOTE | {"ready_when_degraded": True}, "degraded", 200),
        # What is lost is its own here, so it is useless.
        ({"judge": "scripted", "ready_when_degraded": True}, "failed", 503),
    ],
)
async def test_a_service_may_stay_ready_without_an_engine_behind_a_server(
    settings: dict[str, Any], status: str, code: int
) -> None:
    """What is cached or settled by rules has a reward, and the rest is unscored with its reason."""
    judge = MortalJudge()
    rows = ("known", "new", "left lower lobe")
    known, new, equal = (
        {"response": f"<answer>{row}</answer>", "reference": "left lower lobe"} for row in rows
    )
    app = create_app(Settings(**settings), judge=judge, embedder=HashedEmbedder())
    async with over_asgi(app) as client:
        await client.post("/reward", json={"samples": [known]})
        judge.is_down = True
        for _ in range(3):
            reply = await client.post("/reward", json={"samples": [known, new, equal]})
        ready = await client.get("/readyz")
        exposed = (await client.get("/metrics")).text

    assert [r["status"] for r in reply.json()["results"]] == ["scored", "unscored", "scored"]
    assert reply.json()["results"][1]["error"]["kind"] == "judge_unreachable"
    assert (ready.status_code, ready.json()["status"]) == (code, status)
    assert ready.json()["engines"]["judge"]["ready"] is False
    assert f"medreward_ready {float(code == 200)}" in exposed


@pytest.mark.parametrize(
    ("settings", "is_given_up"),
    [
        ({"judge": "scripted", "lost_engine_s": 1e-9}, True),
        ({"judge": "scripted", "lost_engine_s": 3600}, False),
        ({"judge": "scripted", "lost_engine_s": 0}, False),
        (REMOTE | {"lost_engine_s": 1e-9}, False),
        ({"llm": "openai", "llm_model": "m", "lost_engine_s": 1e-9}, False),
    ],
)
async def test_an_engine_of_its_own_that_is_lost_for_good_ends_the_process(
    settings: dict[str, Any], *, is_given_up: bool
) -> None:
    """Somebody then starts it again; what a restart does not mend is waited for."""
    judge = MortalJudge()
    app = create_app(Settings(**settings), judge=judge, embedder=HashedEmbedder())
    async with over_asgi(app) as client:
        early = app.state.service.engines.given_up
        judge.is_down = True
        for _ in range(3):
            await client.post("/reward", json=BODY | {"recipe": "medix-r1"})
        reason = app.state.service.engines.given_up
        judge.is_down = False
        await until(lambda: is_ready(client))
        late = app.state.service.engines.given_up

    assert (early, late) == (None, None)
    assert (reason is not None) is is_given_up
    if is_given_up:
        assert reason.startswith("the judge was lost and has not come back for 1e-09 s")
        assert "MEDREWARD_LOST_ENGINE_S" in reason


async def test_a_stalled_event_loop_is_not_ready() -> None:
    """Readiness notices within seconds, so that load balancers choose another replica."""
    app = create_app(Settings(), judge=ScriptedJudge(), embedder=HashedEmbedder())
    async with over_asgi(app):
        service = app.state.service
        # Nothing is awaited in between, so the loop makes no turn.
        service.watchdog.last_s = time.monotonic() - LATE_S + 1
        busy = service.readiness
        service.watchdog.last_s = time.monotonic() - LATE_S - 1
        stalled = service.readiness

    assert (busy.status, busy.is_ready) == ("ready", True)
    assert (stalled.status, stalled.is_ready) == ("stalled", False)


class ShakenJudge(MortalJudge):
    """A judge that, asked whether it is back, raises something unheard of."""

    async def start(self) -> None:
        """Nothing is left to do."""

    async def decide(self, inquiries: Sequence[Inquiry]) -> Sequence[Judgement | Problem]:
        """Fail oddly for the warm-up's question only."""
        if self.is_down and inquiries[0].answer == inquiries[0].reference:
            raise ZeroDivisionError
        return await super().decide(inquiries)


async def test_an_answer_brings_an_engine_back_whatever_its_probe_said(serve: Serve) -> None:
    """A probe that fails in an unforeseen way does not leave the service not ready for ever."""
    judge = ShakenJudge()
    async with serve(judge=judge) as client:
        judge.is_down = True
        for _ in range(3):
            await client.post("/reward", json=BODY)
        await until(lambda: judge_says("ZeroDivisionError", client))
        lost = await client.get("/readyz")
        judge.is_down = False
        await client.post("/reward", json=BODY)
        found = await client.get("/readyz")

    assert "ZeroDivisionError" in lost.json()["engines"]["judge"]["message"]
    assert (lost.status_code, found.status_code) == (503, 200)


class ReplacedJudge(MortalJudge):
    """A judge whose server comes back with another model, until somebody mends that."""

    is_another = False

    async def start(self) -> None:
        """Refuse the other model."""
        if self.is_another:
            raise SetupError("it serves another model now")


async def test_an_engine_that_is_mended_is_noticed_without_a_request(serve: Serve) -> None:
    """Nobody sends requests to a service that is not ready, so no answer could bring it back."""
    judge = ReplacedJudge()
    async with serve(judge=judge) as client:
        judge.is_down = judge.is_another = True
        for _ in range(3):
            await client.post("/reward", json=BODY)
        await until(lambda: judge_says("another model", client))
        judge.is_down = judge.is_another = False
        await until(lambda: is_ready(client))


class FewTemplates(ScriptedJudge):
    """A judge that is no language model: it understands the templates that are named."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self._names = names

    def can_answer(self, template: Template) -> bool:
        """Accept those that were named."""
        return template.name in self._names


async def test_an_engine_that_cannot_be_used_fails_loading_with_the_reason() -> None:
    """Readyz tells what is wrong instead of loading for ever."""
    app = create_app(Settings(), judge=FewTemplates(), embedder=HashedEmbedder())
    async with app.router.lifespan_context(app):
        readiness = (await loaded(app)).engines.readiness

    assert readiness.status == "failed"
    assert "cannot answer the template 'equivalence'" in readiness.engines["judge"].message


async def test_the_embedder_is_loaded_before_the_judge() -> None:
    """A judge in vLLM takes its share of what the embedder leaves of a GPU."""
    started: list[str] = []

    class NotedEmbedder(HashedEmbedder):
        async def start(self) -> None:
            started.append("embedder")

    class NotedJudge(ScriptedJudge):
        async def start(self) -> None:
            started.append("judge")

    app = create_app(Settings(), judge=NotedJudge(), embedder=NotedEmbedder())
    async with app.router.lifespan_context(app):
        await loaded(app)

    assert started == ["embedder", "judge"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"judge": "oracle"},
            "MEDREWARD_JUDGE='oracle'; choose from causal_lm, cross_encoder, vllm, openai, role, scripted",
        ),
        ({"recipe": "medix"}, "MEDREWARD_RECIPE='medix'; choose from medix-r1"),
    ],
)
def test_a_setting_that_names_nothing_is_refused_at_start(
    settings: dict[str, str], told: str
) -> None:
    """No service starts with a misspelt engine or recipe."""
    with pytest.raises(SetupError, match=re.escape(told)):
        create_app(Settings.model_validate(settings))


@pytest.mark.parametrize("template", ["report", "rubric", "preference"])
def test_a_template_of_other_questions_is_refused_at_start(tmp_path: Path, template: str) -> None:
    """The signal accuracy_llm is a verdict on one answer, by a reference."""
    recipe = tmp_path / "odd.toml"
    recipe.write_text(
        f'name = "odd"\nversion = 1\ndescription = "d"\ntemplate = "{template}"\ntags = "none"\n'
        "[signals.accuracy_llm]\nweight = 1.0\n"
    )

    with pytest.raises(SetupError, match=f"'odd': .*{template}.*choose from equivalence, match"):
        create_app(Settings(judge="scripted", embedder="hashed", recipes=str(recipe)))


async def test_recipes_are_shown_as_they_were_resolved(serve: Serve) -> None:
    """The list and the single recipe agree, with the fingerprint that rewards carry."""
    async with serve() as client:
        listed = (await client.get("/recipes")).json()
        shown = (await client.get("/recipes/medix-r1")).json()
        reward = (await client.post("/reward", json=BODY)).json()
        missing = await client.get("/recipes/none")

    by_name = {recipe["name"]: recipe for recipe in listed["recipes"]}
    assert listed["default"] == "medix-r1"
    assert by_name["medix-r1"] == shown
    assert by_name["medix-r1-guarded"]["guards"]["witness_cosine"] == 0.7
    assert shown["fingerprint"] == reward["provenance"]["fingerprint"]
    assert shown["signals"]["accuracy_embed"] == {"weight": 0.3375, "threshold": 0.8}
    assert (missing.status_code, missing.json()["error"]["kind"]) == (404, "not_found")


async def test_version_tells_what_the_numbers_are_not_for(serve: Serve) -> None:
    """The notice stands where users of the API see it."""
    async with serve() as client:
        version = (await client.get("/version")).json()

    assert version["service"] == medreward.__version__
    assert "not for clinical use" in version["notice"]


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("POST", "/reward/", 404, "not_found"),
        ("GET", "/reward", 405, "method_not_allowed"),
    ],
)
async def test_wrong_paths_and_methods_get_the_contracts_error(
    serve: Serve, method: str, path: str, status: int, kind: str
) -> None:
    """Every refusal has the same body."""
    async with serve() as client:
        reply = await client.request(method, path)

    assert (reply.status_code, reply.json()["error"]["kind"]) == (status, kind)
    assert reply.json()["request_id"] == reply.headers["x-request-id"]


@pytest.mark.parametrize(
    ("sent", "kept"), [("run-7.step:3_a", True), ("x" * 129, False), ("a b", False), ("", False)]
)
async def test_a_request_id_is_echoed_or_made(serve: Serve, sent: str, *, kept: bool) -> None:
    """One that is too long or not plain is replaced."""
    async with serve() as client:
        reply = await client.get("/livez", headers={"X-Request-ID": sent})

    assert (reply.headers["x-request-id"] == sent) is kept
    assert reply.headers["x-request-id"]


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("Bearer key-one", 200),
        ("bearer key-two", 200),
        ("Bearer key-one key-two", 401),
        ("Basic key-one", 401),
        ("Bearer ", 401),
        ("", 401),
    ],
)
async def test_with_keys_set_only_they_open_the_door(
    serve: Serve, authorization: str, status: int
) -> None:
    """Everything but livez and readyz asks for a key, and the refusal says how to send it."""
    headers = {"Authorization": authorization} if authorization else {}
    async with serve(api_keys="key-one, key-two") as client:
        replies = [
            await client.get(path, headers=headers)
            for path in ("/recipes", "/metrics", "/version", "/openapi.json")
        ]
        replies.append(await client.post("/reward", json=BODY, headers=headers))
        probes = [await client.get("/livez"), await client.get("/readyz")]

    assert {reply.status_code for reply in replies} == {status}
    assert {probe.status_code for probe in probes} == {200}
    if status == 401:
        assert replies[0].headers["www-authenticate"] == "Bearer"
        assert "key-one" not in "".join(reply.text for reply in replies)


async def test_a_browser_can_read_the_routes(serve: Serve) -> None:
    """It sends no key, and need not have a network: the page loads nothing from elsewhere."""
    async with serve(api_keys="k") as client:
        page = await client.get("/docs")
        document = (await client.get("/openapi.json", headers={"Authorization": "Bearer k"})).json()

    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert [path for path in document["paths"] if f"<code>{path}</code>" not in page.text] == []
    assert not re.search(r"<script|<link|src=|https?:", page.text)


@pytest.mark.parametrize("key", ["schlüssel", "clé à", "密钥"])
async def test_a_key_may_have_any_letters(serve: Serve, key: str) -> None:
    """It is compared as the bytes that were sent."""
    async with serve(api_keys=key) as client:
        replies = [
            await client.get("/version", headers={b"Authorization": f"Bearer {sent}".encode()})
            for sent in (key, key[:-1])
        ]

    assert [reply.status_code for reply in replies] == [200, 401]


async def test_metrics_tell_what_happened(serve: Serve) -> None:
    """Requests, samples, verdicts, rewards and judge calls are counted, by closed labels."""
    async with serve() as client:
        for _ in range(2):
            await client.post("/reward", json=BODY)
        await client.post("/reward", content=b"{")
        await client.get("/secret-path")
        exposition = (await client.get("/metrics")).text

    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }
    assert samples["medreward_http_requests_total", "/reward", "200", "POST"] == 2
    assert samples["medreward_http_requests_total", "/reward", "400", "POST"] == 1
    assert samples["medreward_http_requests_total", "404", "GET", "unmatched"] == 1
    assert samples["medreward_samples_total", "scored"] == 2
    assert samples["medreward_verdicts_total", "no"] == 2
    assert samples["medreward_judge_calls_total",] == 1
    assert samples["medreward_cache_requests_total", "hit", "judge", "memory"] == 1
    assert samples["medreward_reward_count", "medix-r1"] == 2
    assert samples["medreward_build_info", medreward.__version__, "all"] == 1
    assert "secret-path" not in exposition
    assert "basal left" not in exposition


@pytest.mark.needs("promtool")
async def test_promtool_finds_nothing_to_complain_about(serve: Serve) -> None:
    """Base units, help texts, `_total` only on counters."""
    async with serve() as client:
        await client.post("/reward", json=BODY)
        await client.post("/judge", json={"items": [{"answer": "a b", "reference": "a c"}]})
        exposition = (await client.get("/metrics")).content

    checked = await asyncio.to_thread(
        subprocess.run, ["promtool", "check", "metrics"], input=exposition, capture_output=True
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


async def test_a_template_that_the_judge_cannot_answer_is_unavailable(serve: Serve) -> None:
    """Report and rubric need a language model, and the refusal says so."""
    item = {"answer": "a b", "reference": "a c", "criteria": [{"text": "t", "points": 1}]}
    async with serve(judge=FewTemplates("match", "equivalence")) as client:
        replies = [
            await client.post("/judge", json={"template": template, "items": [item]})
            for template in ("equivalence", "report", "rubric")
        ]

    assert [reply.status_code for reply in replies] == [200, 422, 422]
    assert {reply.json()["error"]["kind"] for reply in replies[1:]} == {"template_unavailable"}
    for reply in replies[1:]:
        assert "use MEDREWARD_PROFILE=embedded, or set" in reply.json()["error"]["message"]


async def test_a_judge_without_a_language_model_says_what_it_cannot_read(serve: Serve) -> None:
    """In one line of the log when it is ready, and in the provenance of each reply."""
    item = {"answer": "a b", "reference": "a c"}
    with structlog.testing.capture_logs() as logged:
        async with serve(judge=FewTemplates("match", "equivalence")) as client:
            limited = [
                (await client.post("/judge", json={"items": [item]})).json(),
                (await client.post("/reward", json=BODY)).json(),
            ]
    async with serve() as client:
        reading = (await client.post("/reward", json=BODY)).json()

    told = {reply["provenance"]["judge_limits"] for reply in limited}
    assert told == {LIMITS_WITHOUT_LLM}
    assert [e["limits"] for e in logged if e["event"] == "judge_limited"] == [LIMITS_WITHOUT_LLM]
    assert reading["provenance"]["judge_limits"] is None
