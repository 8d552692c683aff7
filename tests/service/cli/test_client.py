"""Talking to a service that is busy, closed, somewhere else, or no medreward at all."""

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from medreward.app import create_app
from medreward.cli.client import Connection, batches
from medreward.cli.terminal import CommandError
from medreward.engines.remote.http_client import AsyncClient
from medreward.engines.status import Readiness
from tests.service.cli.conftest import PATIENT_TEXT, Run, settings
from tests.support.service import served

Write = Callable[..., Path]

SAMPLE = {"response": "<answer>Left lower lobe</answer>", "reference": "left lower lobe"}
BUSY = {"error": {"kind": "overloaded", "message": "every permit is taken", "retryable": True}}


@pytest.mark.parametrize(
    ("groups", "size", "pieces"),
    [
        ("aabbcc", 2, ["aa", "bb", "cc"]),
        ("aaabbc", 2, ["aaa", "bb", "c"]),
        ("aaaaab", 2, ["aaaaa", "b"]),
        ("abcdef", 4, ["abcd", "ef"]),
        ("", 2, []),
    ],
)
def test_a_batch_ends_where_its_lines_need_not_be_together(
    groups: str, size: int, pieces: list[str]
) -> None:
    """So a command that sends groups divides none of them."""
    assert batches(groups, size, together=str.__eq__) == pieces


class Turnstile:
    """Answers the first requests to a path by itself, and lets the others through."""

    def __init__(self, app: ASGIApp, *answers: Response, path: str = "/reward") -> None:
        self._app = app
        self._answers = list(answers)
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        is_met = scope["type"] == "http" and scope["path"] == self._path
        answer = self._answers.pop(0) if is_met and self._answers else self._app
        await answer(scope, receive, send)


def busy(status: int) -> Response:
    """What a service says that cannot take a request now."""
    return JSONResponse(BUSY | {"request_id": "r1"}, status, headers={"Retry-After": "0"})


async def always_busy(scope: Scope, receive: Receive, send: Send) -> None:
    """A service that never has room."""
    await busy(429)(scope, receive, send)


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_service_is_asked_again(run: Run, jsonl: Write, status: int) -> None:
    """What could not be taken now is sent once more."""
    app = Turnstile(create_app(settings()), busy(status))
    with served(app) as url:
        told = run("score", jsonl(SAMPLE), "--url", url)

    assert told.code == 0
    assert "samples   1, all scored" in told.stdout


@pytest.mark.anyio
async def test_a_service_that_stays_busy_is_given_up() -> None:
    """Every wait has an end, and its reason is what the service said last."""
    async with AsyncClient() as client:
        with served(always_busy) as url:
            client.base_url = url
            with pytest.raises(CommandError, match="took nothing for 1 s: every permit is taken"):
                await Connection(client, url, retry_for_s=1.0).post("reward", "{}")


@pytest.mark.anyio
async def test_a_service_that_went_away_is_given_up() -> None:
    """A restart is waited for as a queue is, and no longer."""
    async with AsyncClient(base_url="http://127.0.0.1:9") as client:
        with pytest.raises(CommandError, match="cannot be reached"):
            await Connection(client, "http://127.0.0.1:9", retry_for_s=0.1).post("reward", "{}")


def test_nobody_there_is_told_at_once(run: Run, jsonl: Write) -> None:
    """A wrong URL should not cost two minutes."""
    told = run("score", jsonl(SAMPLE), "--url", "http://127.0.0.1:9")

    assert told.code == 2
    assert told.stderr.count("\n") == 1
    assert "http://127.0.0.1:9: the server cannot be reached" in told.stderr
    assert "check --url" in told.stderr


@pytest.mark.parametrize(
    ("name", "value", "told_of"),
    [
        ("NO_PROXY", "localhost,fd00::/8", ""),
        (
            "HTTP_PROXY",
            "http://ward:hunter2@127.0.0.1:9",
            "through the environment's proxy 127.0.0.1:9",
        ),
    ],
)
def test_the_environments_proxy_is_named(
    run: Run, jsonl: Write, monkeypatch: pytest.MonkeyPatch, *, name: str, value: str, told_of: str
) -> None:
    """If there is one; and a network among the exceptions does no harm."""
    for known in ("HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(known, raising=False)
        monkeypatch.delenv(known.lower(), raising=False)
    monkeypatch.setenv(name, value)

    told = run("score", jsonl(SAMPLE), "--url", "http://127.0.0.1:9")

    assert told.code == 2
    assert told.stderr.count("\n") == 1
    assert "cannot be reached" in told.stderr
    assert told_of in told.stderr
    assert "hunter2" not in told.stderr


def test_a_degraded_service_is_used(run: Run, jsonl: Write) -> None:
    """It accepts requests, so nobody waits for its engine."""
    app = create_app(settings())
    degraded = JSONResponse(Readiness(status="degraded", engines={}).model_dump())

    async def without_judge(scope: Scope, receive: Receive, send: Send) -> None:
        await (degraded if scope.get("path") == "/readyz" else app)(scope, receive, send)

    with served(without_judge) as url:
        told = run("score", jsonl(SAMPLE), "--url", url)

    assert told.code == 0


@pytest.mark.parametrize("url", ["localhost:8080", "http://", "http://[::1"])
def test_what_is_no_url_is_refused(run: Run, jsonl: Write, url: str) -> None:
    """The message shows one."""
    told = run("score", jsonl(SAMPLE), "--url", url)

    assert told.code == 2
    assert "give one such as http://127.0.0.1:8080" in told.stderr


def test_another_server_is_recognised(run: Run, jsonl: Write) -> None:
    """A wrong port often has something else behind it."""
    with served(Response("hello")) as url:
        told = run("score", jsonl(SAMPLE), "--url", url)

    assert told.code == 2
    assert f"{url} is no medreward" in told.stderr


def test_a_refusal_is_told_in_the_services_words(run: Run, jsonl: Write) -> None:
    """With the lines it is about, and without retrying what will not change."""
    samples = [SAMPLE | {"reference": ["left", "right"]}] * 2
    with served(create_app(settings(max_questions_in_flight=1))) as url:
        told = run("score", jsonl(*samples), "--url", url)

    assert told.code == 1
    assert "refuses lines 1 to 2: samples: 2 of them ask 4 questions" in told.stderr


def test_lines_that_do_not_fit_at_once_are_sent_in_parts(
    run: Run, jsonl: Write, tmp_path: Path
) -> None:
    """Whatever the limit is, a file is scored in its order."""
    fits = {"kind": "deadline_too_short", "message": "no time", "retryable": True, "fits": 2}
    samples = [SAMPLE | {"id": str(number)} for number in range(8)]
    slow = JSONResponse({"error": fits, "request_id": "r1"}, 429)
    with served(Turnstile(create_app(settings(max_samples=3)), slow)) as url:
        told = run("score", jsonl(*samples), "--url", url, "--out", tmp_path / "out.jsonl")

    written = (tmp_path / "out.jsonl").read_text("utf-8").splitlines()
    assert told.code == 0
    assert [json.loads(line)["id"] for line in written] == [one["id"] for one in samples]


def test_a_refusal_of_something_in_between_is_told_by_its_status(run: Run, jsonl: Write) -> None:
    """Proxies do not speak our language."""
    app = Turnstile(create_app(settings()), Response(f"<html>{PATIENT_TEXT}", 502))
    with served(app) as url:
        told = run("score", jsonl(SAMPLE), "--url", url)

    assert told.code == 1
    assert "HTTP 502" in told.stderr
    assert PATIENT_TEXT not in told.stderr


def test_a_reply_with_too_few_results_is_no_reply(run: Run, jsonl: Write) -> None:
    """Rewards must not slip to their neighbours."""
    with served(create_app(settings())) as url:
        reply = httpx.post(f"{url}/reward", json={"samples": [SAMPLE]}).json()
    with served(Turnstile(create_app(settings()), JSONResponse(reply))) as url:
        told = run("score", jsonl(SAMPLE, SAMPLE), "--url", url)

    assert told.code == 1
    assert "gave 1 results for 2 (lines 1 to 2)" in told.stderr


def test_a_reply_of_another_version_is_told_as_such(run: Run, jsonl: Write) -> None:
    """Not as a traceback."""
    app = Turnstile(create_app(settings()), JSONResponse({"results": [{"score": 1}]}))
    with served(app) as url:
        told = run("score", jsonl(SAMPLE), "--url", url)

    assert told.code == 1
    assert "check the URL, and that both have the same version" in told.stderr


def test_the_key_comes_from_the_environment(
    run: Run, jsonl: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MEDREWARD_KEY by default, or the variable that --api-key-env names; one is asked for."""
    with served(create_app(settings(api_keys=(SecretStr("s3cret"),)))) as url:
        monkeypatch.setenv("MEDREWARD_KEY", "s3cret")
        assert run("score", jsonl(SAMPLE), "--url", url).code == 0
        monkeypatch.delenv("MEDREWARD_KEY")
        told = run("score", jsonl(SAMPLE), "--url", url)
        monkeypatch.setenv("OTHER_KEY", "s3cret")
        assert run("score", jsonl(SAMPLE), "--url", url, "--api-key-env", "OTHER_KEY").code == 0

    assert (told.code, "set MEDREWARD_KEY" in told.stderr) == (1, True)
    assert "s3cret" not in told.stderr


def test_a_key_variable_that_is_not_set_is_a_misuse(run: Run, jsonl: Write) -> None:
    """Whoever names a variable means it to hold a key."""
    told = run("score", jsonl(SAMPLE), "--url", "http://127.0.0.1:9", "--api-key-env", "NO_KEY")

    assert told.code == 2
    assert "the variable NO_KEY is not set" in told.stderr


def test_a_key_that_no_header_can_carry_is_refused_unseen(
    run: Run, jsonl: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pasted line break is a common one."""
    monkeypatch.setenv("MEDREWARD_KEY", "s3cret\nX-Other: 1")
    told = run("score", jsonl(SAMPLE), "--url", "http://127.0.0.1:9")

    assert told.code == 2
    assert "MEDREWARD_KEY holds signs that no key has" in told.stderr
    assert "s3cret" not in told.stderr


def test_the_deadline_of_a_batch_is_an_option(run: Run, jsonl: Write) -> None:
    """It goes with every request, and the service may refuse it."""
    with served(create_app(settings(deadline_s=1.0, max_deadline_s=1.0))) as url:
        told = run("score", jsonl(SAMPLE), "--url", url, "--deadline", "2")

    assert told.code == 1
    assert "deadline_ms: at most 1000 here" in told.stderr
