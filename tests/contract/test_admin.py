"""The admin port: probes, metrics and drain, apart from the public port."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx
import pytest

from medreward.app import create_app
from medreward.engines.embedders.hashed import HashedEmbedder
from medreward.engines.judges.scripted import ScriptedJudge
from medreward.errors import BackendDown
from medreward.http.admin import admin_app
from medreward.http.routes.probes import READY_ALIASES, STALLED_S
from medreward.settings import Settings
from tests.support.engines import Held, TroubledJudge, raising
from tests.support.service import loaded
from tests.support.wait import until

pytestmark = pytest.mark.anyio

TOKEN = "let-it-go"
WITH_TOKEN = {"Authorization": f"Bearer {TOKEN}"}
BODY = {"samples": [{"response": "<answer>basal left</answer>", "reference": "left lower lobe"}]}


class Ports(NamedTuple):
    """Clients of the public and of the admin port."""

    public: httpx.AsyncClient
    admin: httpx.AsyncClient


async def is_unready(port: httpx.AsyncClient) -> bool:
    """Whether a probe would be told that the service is not ready."""
    return (await port.get("/readyz")).status_code == 503


@asynccontextmanager
async def both_ports(
    judge: ScriptedJudge | None = None, *, waits: bool = True, **settings: Any
) -> AsyncIterator[Ports]:
    """A service with an admin port, in this process."""
    chosen: dict[str, Any] = {"admin_port": 0, "drain_token": TOKEN, "recipe": "medix-r1"}
    app = create_app(
        Settings(**chosen | settings), judge=judge or ScriptedJudge(), embedder=HashedEmbedder()
    )
    admin = admin_app(app.state.service)
    async with app.router.lifespan_context(app):
        if waits:
            await loaded(app)
        async with (
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app), base_url="http://localhost"
            ) as public,
            httpx.AsyncClient(transport=httpx.ASGITransport(admin), base_url="http://a") as private,
        ):
            yield Ports(public, private)


async def test_metrics_move_to_the_admin_port() -> None:
    """There they need no key; on the public port they are gone."""
    async with both_ports(api_keys="one") as ports:
        here = await ports.admin.get("/metrics")
        there = await ports.public.get("/metrics", headers={"Authorization": "Bearer one"})

    assert here.status_code == 200
    assert "medreward_build_info" in here.text
    assert there.status_code == 404


@pytest.mark.parametrize("path", ["/readyz", "/livez", "/startupz", *READY_ALIASES])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_probes_answer_on_both_ports(path: str, method: str) -> None:
    """By GET and HEAD, without a key, under the names that load balancers know."""
    async with both_ports(api_keys="one") as ports:
        replies = [await port.request(method, path) for port in (ports.public, ports.admin)]

    assert [reply.status_code for reply in replies] == [200, 200]


async def test_startup_tells_how_far_it_is() -> None:
    """Until everything was ready for the first time it is 503; nothing undoes it later."""
    async with both_ports(
        TroubledJudge(raising(BackendDown("refused")), after=0), waits=False
    ) as ports:

        async def is_warming_up() -> bool:
            stage: str = (await ports.admin.get("/startupz")).json()["stage"]
            return stage != "load"

        await until(is_warming_up)
        early = await ports.admin.get("/startupz")
    async with both_ports() as ports:
        await ports.admin.post("/drain", headers=WITH_TOKEN, params={"wait_s": 0})
        late = await ports.admin.get("/startupz")
        is_ready = await ports.admin.get("/readyz")

    assert (early.status_code, early.json()["stage"]) == (503, "warm_up")
    assert early.json()["engines"]["judge"]["ready"] is False
    assert (late.status_code, late.json()["stage"]) == (200, "ready")
    assert is_ready.status_code == 503


async def test_an_api_has_started_while_its_judge_is_away() -> None:
    """Whoever restarts what does not start would restart it until the judge is there."""
    judge = TroubledJudge(raising(BackendDown("refused")), after=0)
    async with both_ports(judge, waits=False, role="api") as ports:
        started = [await port.get("/startupz") for port in ports]
        ready = await ports.admin.get("/readyz")

    assert [(r.status_code, r.json()["stage"]) for r in started] == [(200, "ready")] * 2
    assert started[0].json()["engines"]["judge"]["ready"] is False
    assert (ready.status_code, ready.json()["status"]) == (503, "loading")


async def test_a_stalled_event_loop_is_not_alive() -> None:
    """Only another thread can tell; a probe on the loop itself would not be answered."""
    app = create_app(Settings(judge="scripted", embedder="hashed"))
    service, admin = app.state.service, admin_app(app.state.service)
    transport = httpx.ASGITransport(admin)
    async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
        alive = await client.get("/livez")
        service.watchdog.last_s -= STALLED_S + 1
        stalled = await client.get("/livez")

    assert alive.status_code == 200
    assert (stalled.status_code, stalled.json()) == (503, {"status": "stalled"})


async def test_drain_waits_for_what_is_in_flight() -> None:
    """What was begun is answered rightly, what comes is refused, and then it is drained."""
    judge = Held()
    async with both_ports(TroubledJudge(judge)) as ports:
        begun = asyncio.create_task(ports.public.post("/reward", json=BODY))
        await judge.is_asked.wait()
        draining = asyncio.create_task(ports.admin.post("/drain", headers=WITH_TOKEN))
        await until(lambda: is_unready(ports.public))
        refused = await ports.public.post("/reward", json=BODY)
        was_done = draining.done()
        judge.may_answer.set()
        scored, drained = await begun, await draining

    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) >= 1
    assert refused.json()["error"]["kind"] == "not_ready"
    assert not was_done
    assert scored.json()["results"][0]["status"] == "scored"
    assert (drained.status_code, drained.json()) == (200, {"status": "drained", "in_flight": 0})


async def test_a_drain_that_takes_too_long_says_so() -> None:
    """With the number of requests that are left, and the service stays closed."""
    judge = Held()
    async with both_ports(TroubledJudge(judge)) as ports:
        begun = asyncio.create_task(ports.public.post("/reward", json=BODY))
        await judge.is_asked.wait()
        late = await ports.admin.post("/drain", headers=WITH_TOKEN, params={"wait_s": 0.1})
        judge.may_answer.set()
        await begun

    assert (late.status_code, late.json()) == (504, {"status": "draining", "in_flight": 1})


async def test_within_the_delay_requests_are_still_served() -> None:
    """Readiness says no at once; replies ask callers not to keep their connection."""
    async with both_ports(drain_delay_s=60) as ports:
        begun = await ports.admin.post("/drain", headers=WITH_TOKEN, params={"wait_s": 0})
        ready = await ports.public.get("/readyz")
        served = await ports.public.post("/reward", json=BODY)

    assert (begun.status_code, begun.json()["status"]) == (202, "draining")
    assert (ready.status_code, ready.json()["status"]) == (503, "draining")
    assert served.json()["results"][0]["status"] == "scored"
    assert served.headers["Connection"] == "close"


async def test_a_drain_can_be_taken_back() -> None:
    """A deployment that was drained by mistake serves again."""
    async with both_ports() as ports:
        await ports.admin.post("/drain", headers=WITH_TOKEN)
        back = await ports.admin.delete("/drain", headers=WITH_TOKEN)
        served = await ports.public.post("/reward", json=BODY)

    assert back.json() == {"status": "serving", "in_flight": 0}
    assert served.status_code == 200
    assert "Connection" not in served.headers


@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize("sent", ["", "Bearer wrong", f"Basic {TOKEN}", "Bearer \xfc"])
async def test_only_the_token_drains(method: str, sent: str) -> None:
    """Whoever reaches the port may look, but not close the service."""
    async with both_ports() as ports:
        headers = [(b"authorization", sent.encode("latin-1"))] if sent else []
        refused = await ports.admin.request(method, "/drain", headers=headers)
        ready = await ports.public.get("/readyz")

    assert refused.status_code == 401
    assert TOKEN not in refused.text
    assert ready.status_code == 200


async def test_without_a_token_nobody_drains_by_request() -> None:
    """The reply names the setting."""
    async with both_ports(drain_token=None) as ports:
        refused = await ports.admin.post("/drain", headers=WITH_TOKEN)

    assert refused.status_code == 401
    assert "MEDREWARD_DRAIN_TOKEN" in refused.json()["error"]["message"]


@pytest.mark.parametrize("wait_s", ["long", "-1", "nan", "1e9"])
async def test_a_wait_is_a_bounded_number(wait_s: str) -> None:
    """Anything else is refused before anything drains."""
    async with both_ports() as ports:
        refused = await ports.admin.post("/drain", headers=WITH_TOKEN, params={"wait_s": wait_s})
        ready = await ports.public.get("/readyz")

    assert refused.status_code == 422
    assert "wait_s" in refused.json()["error"]["message"]
    assert ready.status_code == 200
