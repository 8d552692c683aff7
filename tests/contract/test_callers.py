"""Who may ask: named keys, keys that are replaced under traffic, and web pages of others."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Serve
from tests.support.process import Service, serving
from tests.support.wait import until, wait_until

pytestmark = pytest.mark.anyio

SAMPLE = {"response": "<answer>basal left</answer>", "reference": "left lower lobe"}
BODY: dict[str, Any] = {"samples": [SAMPLE]}
SCRIPTED = {"judge": "scripted", "embedder": "hashed"}


def sending(key: str) -> dict[str, str]:
    """The header with a key."""
    return {"Authorization": f"Bearer {key}"}


async def judge_calls(client: httpx.AsyncClient, key: str) -> int:
    """Score the sample; returns how many questions the judge was asked."""
    reply = await client.post("/reward", json=BODY, headers=sending(key))
    calls: int = reply.json()["counts"]["judge_calls"]
    return calls


async def test_a_name_keeps_its_cache_when_its_key_changes(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Judgements and runs belong to the name; another name, and a key without one, share nothing."""
    file = tmp_path / "medreward_api_keys"
    file.write_text("ward:=old,ward,lab:=other")
    monkeypatch.setenv("MEDREWARD_SECRETS_DIR", str(tmp_path))
    run = {"run": {"id": "grpo", "step": 0}}
    async with serve() as client:
        first = await judge_calls(client, "old")
        await client.post("/reward", json=BODY | run, headers=sending("old"))
        file.write_text("ward:=new,ward,lab:=other")

        async def is_in_force() -> bool:
            return (await client.get("/version", headers=sending("new"))).status_code == 200

        await until(is_in_force)
        calls = [await judge_calls(client, key) for key in ("new", "other", "ward")]
        runs = [
            (await client.get("/runs/grpo", headers=sending(key))).status_code
            for key in ("new", "other", "old")
        ]

    assert first == 1
    assert calls == [0, 1, 1]
    assert runs == [200, 404, 401]


@pytest.mark.slow
def test_keys_are_replaced_without_a_restart_or_a_refusal(tmp_path: Path) -> None:
    """Add the new key, move the callers, take the old one away: none of them sees a 401."""
    file = tmp_path / "medreward_api_keys"
    file.write_text("first")
    with serving(None, secrets_dir=tmp_path, **SCRIPTED) as service:
        seen: list[int] = []

        def is_so(key: str, code: int, *, meanwhile: str) -> bool:
            seen.append(status(service, meanwhile))
            return status(service, key) == code

        file.write_text("first,second")
        wait_until(lambda: is_so("second", 200, meanwhile="first"))
        file.write_text("second")
        wait_until(lambda: is_so("first", 401, meanwhile="second"))

    assert set(seen) == {200}
    assert "first" not in service.stderr
    assert "second" not in service.stderr


def status(service: Service, key: str) -> int:
    """Ask for the version with a key."""
    return httpx.get(f"{service.url}/version", headers=sending(key)).status_code


# Web pages.

FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:3000"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Host": "evil.example"},
    {"Host": "localhost.evil.example:8080"},
    {"Host": "rewards.example", "Origin": "http://rewards.example"},
]
OWN = [
    {},
    {"Host": "localhost:8080", "Origin": "http://localhost:8080"},
    {"Host": "localhost:8080", "Origin": "http://localhost:8080", "Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
    {"Host": "127.0.0.1:8080"},
    {"Host": "[::1]:8080"},
    {"Host": "192.0.2.7"},
    {"Host": "rewards.localhost."},
    {"Host": "known.example:443", "Origin": "https://known.example"},
    {"Host": "127.0.0.1:8080", "Origin": "https://known.example", "Sec-Fetch-Site": "cross-site"},
]


@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
@pytest.mark.parametrize(("headers", "code"), [(h, 403) for h in FOREIGN] + [(h, 200) for h in OWN])
async def test_without_keys_pages_of_others_are_refused(
    serve: Serve, headers: dict[str, str], content_type: str, code: int
) -> None:
    """A browser sends what any page asks for; whoever has no browser notices nothing."""
    async with serve(allowed_hosts="known.example") as client:
        reply = await client.post(
            "/reward", content=json.dumps(BODY), headers=headers | {"Content-Type": content_type}
        )

    assert reply.status_code == code
    if code == 403:
        error = reply.json()["error"]
        assert (error["kind"], error["retryable"]) == ("forbidden", False)
        assert "MEDREWARD_ALLOWED_HOSTS" in error["message"]


@pytest.mark.parametrize("headers", FOREIGN)
async def test_a_key_is_enough_whatever_the_page(serve: Serve, headers: dict[str, str]) -> None:
    """No page of others knows one; and probes answer everybody."""
    async with serve(api_keys="k") as client:
        keyed = await client.post("/reward", json=BODY, headers=headers | sending("k"))
    async with serve() as client:
        probed = await client.get("/readyz", headers=headers)

    assert (keyed.status_code, probed.status_code) == (200, 200)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Host": "rewards.example"}, 200),
        ({"Host": "rewards.example", "Origin": "https://rewards.example"}, 200),
        ({"Host": "rewards.example", "Origin": "https://evil.example"}, 403),
        ({"Host": "rewards.example", "Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
async def test_beyond_loopback_any_name_is_its_own(
    serve: Serve, headers: dict[str, str], code: int
) -> None:
    """Its names are other people's choice there, but pages of others are refused all the same."""
    async with serve(host="192.0.2.7", allow_unauthenticated=True) as client:
        reply = await client.post("/reward", json=BODY, headers=headers)

    assert reply.status_code == code


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip"])
async def test_a_compressed_body_is_refused_by_the_name_of_its_header(
    serve: Serve, encoding: str
) -> None:
    """It is not read as broken JSON."""
    async with serve() as client:
        reply = await client.post("/reward", json=BODY, headers={"Content-Encoding": encoding})
        plain = await client.post("/reward", json=BODY, headers={"Content-Encoding": "identity"})

    assert (reply.status_code, reply.json()["error"]["kind"]) == (415, "encoded_body")
    assert "Content-Encoding" in reply.json()["error"]["message"]
    assert plain.status_code == 200
