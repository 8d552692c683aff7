"""The wire itself: what is sent, and how a reply is read."""

import json
import socket
from contextlib import aclosing

import pytest

from medreward.engines.judges.openai import OpenAiJudge
from medreward.engines.judges.peer import RoleJudge
from medreward.engines.remote.http_client import Reply, encoded, json_of, proxy_for, retry_after_s
from medreward.engines.remote.pool import Pauses
from medreward.errors import BackendDown, EngineError, NonsenseReply, SetupError


@pytest.mark.parametrize(
    "text", ["", "größer", "\x00", "\u2028", "\U0001f600", "\ud800", "a\udfffb"]
)
def test_any_text_survives_being_sent(text: str) -> None:
    """Also what is no UTF-8."""
    assert json.loads(encoded({"text": text, "list": [text]})) == {"text": text, "list": [text]}


@pytest.mark.parametrize("status", [199, 301, 400, 500])
def test_what_is_no_answer_is_a_server_that_cannot(status: int) -> None:
    """The body of an error is not read as an answer, whatever it says."""
    with pytest.raises(BackendDown, match=str(status)):
        json_of(Reply(status, b"{}"))


@pytest.mark.parametrize("content", [b"", b" ", b"<html>sorry</html>", b"\xff", b"busy"])
def test_a_page_in_the_place_of_an_answer_is_a_server_that_cannot(content: bytes) -> None:
    """Something between sent it, so the same request may be answered later; it is not repeated."""
    with pytest.raises(BackendDown, match="answers 200, but no JSON") as caught:
        json_of(Reply(200, content))
    assert "sorry" not in str(caught.value)


@pytest.mark.parametrize("content", [b"{", b'{"a": "html', b"[" * 100_000])
def test_what_is_no_json_is_nonsense(content: bytes) -> None:
    """And is not repeated."""
    with pytest.raises(NonsenseReply) as caught:
        json_of(Reply(200, content))
    assert "html" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("2", 2.0),
        ("0.5", 0.5),
        ("-1", 0.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("nan", None),
        ("inf", None),
        ("", None),
    ],
)
def test_retry_after_is_read_in_seconds(header: str, seconds: float | None) -> None:
    """A date, or what is no number, says nothing."""
    assert retry_after_s({"Retry-After": header}) == seconds
    assert retry_after_s({}) is None


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({}, "http://judge:8000", None),
        ({"HTTP_PROXY": "http://p:3128"}, "http://judge:8000", "http://p:3128"),
        ({"http_proxy": "p:3128"}, "http://judge:8000", "http://p:3128"),
        ({"HTTP_PROXY": "http://p:3128"}, "https://judge", None),
        ({"ALL_PROXY": "http://p:3128"}, "https://judge", "http://p:3128"),
        ({"NO_PROXY": "fd00::/8,[::1],*.corp, .lan"}, "http://judge:8000", "http://p"),
        ({"NO_PROXY": "judge"}, "http://judge:8000", None),
        ({"NO_PROXY": "judge:8000"}, "http://judge:8000", None),
        ({"NO_PROXY": "judge:9000"}, "http://judge:8000", "http://p"),
        ({"NO_PROXY": "corp"}, "http://judge.corp", None),
        ({"NO_PROXY": ".corp"}, "http://judge.corp", None),
        ({"NO_PROXY": "*.corp"}, "http://judge.corp", None),
        ({"NO_PROXY": "rp"}, "http://judge.corp", "http://p"),
        ({"NO_PROXY": "10.0.0.0/8"}, "http://10.2.3.4:8000", None),
        ({"NO_PROXY": "10.0.0.0/8"}, "http://11.2.3.4:8000", "http://p"),
        ({"NO_PROXY": "fd00::/8"}, "http://[fd00::7]:8000", None),
        ({"NO_PROXY": "::1"}, "http://[::1]:8000", None),
        ({"NO_PROXY": "[::1]"}, "http://[::1]:8000", None),
        ({"NO_PROXY": "*"}, "http://judge", None),
    ],
)
def test_the_environment_names_a_proxy_and_what_needs_none(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], url: str, proxy: str | None
) -> None:
    """Networks count, and an entry that makes the library fail does no harm."""
    _forget_proxies(monkeypatch)
    if "NO_PROXY" in environment:
        environment = {"HTTP_PROXY": "http://p"} | environment
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert proxy_for(url) == proxy


async def _refusal_of(engine: RoleJudge | OpenAiJudge) -> str:
    async with aclosing(engine):
        with pytest.raises(EngineError) as caught:
            await engine.start()
    return str(caught.value)


@pytest.mark.anyio
async def test_a_proxy_is_named_and_is_not_for_our_own_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Clusters put one into every container; its password is in no message."""
    _forget_proxies(monkeypatch)
    monkeypatch.setenv("HTTP_PROXY", "http://ward:hunter2@127.0.0.1:9")
    with socket.create_server(("127.0.0.1", 0)) as unheard:
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}"
        # Closed, so that nobody listens there.
    own = await _refusal_of(RoleJudge(url, pauses=Pauses(0.01, 0.01)))
    foreign = await _refusal_of(OpenAiJudge(f"{url}/v1", model="m", pauses=Pauses(0.01, 0.01)))

    assert own == "the server cannot be reached (ConnectError)"
    assert "through the environment's proxy 127.0.0.1:9" in foreign
    assert "hunter2" not in foreign


@pytest.mark.parametrize("proxy", ["nonsense://p:1", "http://p:port"])
def test_a_proxy_that_cannot_be_used_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    """The refusal names the variables."""
    _forget_proxies(monkeypatch)
    monkeypatch.setenv("HTTP_PROXY", proxy)

    with pytest.raises(SetupError, match="mend HTTP_PROXY"):
        OpenAiJudge("http://judge:8000/v1", model="m")


def _forget_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
