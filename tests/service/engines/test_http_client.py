"""The wire itself: what is sent, and how a reply is read."""

import asyncio
import base64
import gzip
import json
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from medreward.engines.judges.openai import OpenAiJudge
from medreward.engines.judges.peer import RoleJudge
from medreward.engines.remote.http_client import (
    AiohttpTransport,
    Endpoint,
    Reply,
    encoded,
    json_of,
    proxy_for,
    retry_after_s,
)
from medreward.engines.remote.pool import Pauses
from medreward.errors import BackendDown, DeadlinePassed, EngineError, NonsenseReply, SetupError


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

    assert own == "the server cannot be reached (ClientConnectorError)"
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


Wire = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@asynccontextmanager
async def reached(wire: Wire, **options: Any) -> AsyncIterator[Endpoint]:
    """Yield the endpoint of a server whose bytes are those of *wire*, over a real connection."""

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await wire(reader, writer)
        writer.close()

    server = await asyncio.start_server(once, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    given: dict[str, Any] = {
        "headers": {},
        "timeout_s": 10.0,
        "connections": 2,
        "proxy": None,
        "transport": None,
    }
    if "proxy" in options:
        options["proxy"] = options["proxy"].format(port=port)
    endpoint = Endpoint(options.pop("url", f"http://127.0.0.1:{port}/v1"), **given | options)
    try:
        yield endpoint
    finally:
        await endpoint.aclose()
        server.close()
        await server.wait_closed()


def saying(reply: bytes, seen: list[bytes] | None = None) -> Wire:
    """Answer each request with the same bytes, and note its head."""

    async def wire(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            if seen is not None:
                seen.append(head)
            found = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            await reader.readexactly(int(found[1]) if found else 0)
            writer.write(reply)
            await writer.drain()
            if b"Connection: close" in reply:
                return

    async def until_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            await wire(reader, writer)

    return until_the_end


def success(content: bytes, *headers: str) -> bytes:
    """Write a reply with status 200."""
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(content)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + content


@pytest.mark.anyio
async def test_a_connection_is_used_again() -> None:
    """A request carries the headers of the pool and of the call, and asks for no compression."""
    seen: list[bytes] = []
    headers = {"X-Pool": "p"}
    async with reached(saying(success(b"{}"), seen), headers=headers, connections=1) as endpoint:
        replies = [
            await endpoint.send("POST", path, b'{"a":1}', {"X-Call": "c"})
            for path in ("completions", "/tokenize")
        ]

    assert [reply.content for reply in replies] == [b"{}", b"{}"]
    assert [head.split(b" ")[1] for head in seen] == [b"/v1/completions", b"/tokenize"]
    for line in (
        b"X-Pool: p",
        b"X-Call: c",
        b"Content-Type: application/json",
        b"User-Agent: medre",
    ):
        assert all(line.lower() in head.lower() for head in seen)
    assert not any(b"accept-encoding" in head.lower() for head in seen)


@pytest.mark.anyio
async def test_a_large_body_arrives_whole() -> None:
    """It is written in parts; its length is told before."""
    arrived: list[bytes] = []

    async def wire(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        (length,) = re.findall(rb"content-length: (\d+)", head, re.IGNORECASE)
        arrived.extend([head, await reader.readexactly(int(length))])
        writer.write(success(b"{}"))

    body = encoded({"prompt": "lobe " * 500_000})
    async with reached(wire) as endpoint:
        await endpoint.send("POST", "completions", body, {})

    head, content = arrived
    assert content == body
    assert head.lower().count(b"content-type: application/json") == 1
    assert b"transfer-encoding" not in head.lower()


@pytest.mark.anyio
async def test_a_compressed_reply_is_read_all_the_same() -> None:
    """A gateway may compress without being asked."""
    reply = success(gzip.compress(b'{"a": 1}'), "Content-Encoding: gzip")
    async with reached(saying(reply)) as endpoint:
        assert (await endpoint.send("GET", "models", None, {})).content == b'{"a": 1}'


async def _hang_up(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "wire",
    [
        _hang_up,
        saying(success(b"{}")[:-1] + b"", []),
        saying(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        saying(success(b"no gzip", "Content-Encoding: gzip")),
        saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        saying(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n"),
    ],
    ids=["hangs up", "stops halfway", "is no HTTP", "lies", "wrong chunk", "a head of 100 kB"],
)
async def test_a_broken_connection_is_a_server_that_cannot_be_reached(wire: Wire) -> None:
    """It is worth another try, and no other error gets through."""
    if wire is not _hang_up:
        inner = wire

        async def wire(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # The other half of the connection ends behind the reply.
            reading = asyncio.StreamReader()
            reading.feed_data(await reader.readuntil(b"\r\n\r\n"))
            reading.feed_eof()
            await inner(reading, writer)

    async with reached(wire) as endpoint:
        with pytest.raises(BackendDown, match="cannot be reached"):
            await endpoint.send("GET", "models", None, {})


async def _never(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


@pytest.mark.anyio
async def test_a_server_that_says_nothing_is_late() -> None:
    """The time of a try ends it, and the connection is closed."""
    async with reached(_never, timeout_s=0.05) as endpoint:
        with pytest.raises(DeadlinePassed):
            await endpoint.send("GET", "models", None, {})


@pytest.mark.anyio
async def test_a_request_without_a_free_connection_is_late() -> None:
    """The time of a try ends the wait too, as if the server had said nothing."""
    arrived = asyncio.Event()

    async def wire(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await reader.read()

    shared = AiohttpTransport(connections=1)
    async with (
        reached(wire, transport=shared) as patient,
        reached(wire, transport=shared, timeout_s=0.05, url=str(patient.url)) as hasty,
        asyncio.timeout(10.0),
    ):
        holding = asyncio.create_task(patient.send("GET", "models", None, {}))
        await arrived.wait()
        with pytest.raises(DeadlinePassed, match="ConnectionTimeoutError"):
            await hasty.send("GET", "models", None, {})
        assert not holding.done()
        holding.cancel()


@pytest.mark.anyio
async def test_a_redirect_is_not_followed() -> None:
    """A POST would lose its body."""
    moved = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
    seen: list[bytes] = []
    async with reached(saying(moved, seen)) as endpoint:
        assert (await endpoint.send("POST", "completions", b"{}", {})).status == 302
    assert len(seen) == 1


@pytest.mark.anyio
async def test_a_proxy_gets_its_name_and_password() -> None:
    """Those that the environment's address holds, and the whole address of the server."""
    seen: list[bytes] = []
    options = {"url": "http://judge.invalid/v1", "proxy": "http://me:pass%20word@127.0.0.1:{port}"}
    async with reached(saying(success(b"{}"), seen), **options) as endpoint:
        await endpoint.send("GET", "models", None, {})

    assert seen[0].startswith(b"GET http://judge.invalid/v1/models HTTP/1.1")
    credentials = base64.b64encode(b"me:pass word")
    assert b"Proxy-Authorization: Basic " + credentials in seen[0]


@pytest.mark.parametrize("proxy", ["socks5://p:1080", "ftp://p", "http://["])
def test_a_proxy_of_another_kind_is_refused_at_the_start(proxy: str) -> None:
    """The line names the variables, and not the proxy's password."""
    with pytest.raises(SetupError, match="mend HTTP_PROXY"):
        AiohttpTransport(connections=1, proxy=proxy)


def test_certificates_that_cannot_be_read_are_told_at_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The line names the variables; without it, each request would fail by an error of ours."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nowhere.pem"))
    with pytest.raises(SetupError, match="mend SSL_CERT_FILE"):
        AiohttpTransport(connections=1)


@pytest.mark.anyio
async def test_a_name_that_no_host_has_is_a_server_that_cannot_be_reached() -> None:
    """A part of a host's name has at most 63 letters."""
    options: dict[str, Any] = {"headers": {}, "timeout_s": 1.0, "connections": 1}
    endpoint = Endpoint(f"http://{'x' * 64}.test/v1", proxy=None, transport=None, **options)
    with pytest.raises(BackendDown, match="cannot be reached"):
        await endpoint.send("GET", "models", None, {})
    await endpoint.aclose()


@pytest.mark.anyio
async def test_an_unknown_certificate_is_named() -> None:
    """The error tells a certificate from a server that is away."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = await asyncio.start_server(_never, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        options: dict[str, Any] = {
            "timeout_s": 10.0,
            "connections": 1,
            "proxy": None,
            "transport": None,
        }
        endpoint = Endpoint(f"https://127.0.0.1:{port}", headers={}, **options)
        with pytest.raises(BackendDown, match="ClientConnectorCertificateError"):
            await endpoint.send("GET", "models", None, {})
        await endpoint.aclose()
