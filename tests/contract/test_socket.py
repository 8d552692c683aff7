"""The service on a real socket, as uvicorn runs it."""

import asyncio
import contextlib
import json
import resource
import socket
import threading
from collections.abc import Iterator, Sequence

import pytest
from fastapi import FastAPI

import medreward_client as client
from medreward.app import create_app
from medreward.engines.embedders.hashed import HashedEmbedder
from medreward.engines.judge import Inquiry, Judgement
from medreward.engines.judges.scripted import ScriptedJudge
from medreward.errors import Problem
from medreward.http.server import (
    KEPT_FILES,
    MOST_HEAD_BYTES,
    Bounds,
    connections_within,
    raise_file_limit,
)
from medreward.settings import Settings
from tests.support.service import Listener, listening, served
from tests.support.wait import wait_until


class HeldJudge(ScriptedJudge):
    """A judge that answers after its warm-up only when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_answer = threading.Event()

    async def decide(self, inquiries: Sequence[Inquiry]) -> Sequence[Judgement | Problem]:
        """Wait, unless it is the first time; then answer."""
        # Set from another thread, of which this loop is not told.
        while self.batches and not self.may_answer.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return await super().decide(inquiries)


def app_with(judge: ScriptedJudge) -> FastAPI:
    """An app with this judge."""
    return create_app(Settings(recipe="medix-r1"), judge=judge, embedder=HashedEmbedder())


def body(answer: str) -> bytes:
    """A request for one sample that the judge has to be asked about."""
    sample = {"response": f"<answer>{answer}</answer>", "reference": "left lower lobe"}
    return json.dumps({"samples": [sample]}).encode()


def test_the_blocking_client_scores_over_a_socket() -> None:
    """Rewards come back over TCP, and readiness is true."""
    with served(app_with(ScriptedJudge())) as url, client.RewardClient(url) as service:
        wait_until(lambda: service.health().ready)
        reply = service.reward([client.Sample(response="a b", reference="A B")])

    assert list(reply.rewards) == [pytest.approx(0.855 / 0.955)]


@pytest.mark.anyio
async def test_a_caller_that_hangs_up_frees_its_place_and_its_question() -> None:
    """Uvicorn's disconnect reaches the pipeline: nothing stays in flight or in the queue."""
    app = app_with(HeldJudge())
    service = app.state.service
    with listening(app) as server:
        await asyncio.to_thread(wait_until, lambda: service.engines.status == "ready")
        for answer in ("the first", "the second"):
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            head = f"POST /reward HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body(answer))}\r\n\r\n"
            writer.write(head.encode() + body(answer))
            await writer.drain()
            await asyncio.to_thread(wait_until, lambda: service.admission.in_flight.questions == 1)
            writer.close()
            await asyncio.to_thread(wait_until, lambda: service.admission.in_flight.requests == 0)

        exposition = service.metrics.exposition().decode()

    assert 'medreward_queue_depth{role="judge"} 0.0' in exposition
    assert 'route="/reward"' in exposition
    assert 'code="499"' in exposition


def test_a_service_that_stops_finishes_what_it_has() -> None:
    """A request in flight gets its reply before the process goes."""
    judge = HeldJudge()
    app = app_with(judge)
    replies: list[client.RewardReply] = []

    def ask(url: str) -> None:
        with client.RewardClient(url) as service:
            sample = client.Sample(
                response="<answer>basal left</answer>", reference="left lower lobe"
            )
            replies.append(service.reward([sample]))

    with listening(app) as server:
        wait_until(lambda: app.state.service.engines.status == "ready")
        asking = threading.Thread(target=ask, args=[server.url])
        asking.start()
        wait_until(lambda: app.state.service.admission.in_flight.questions == 1)
        server.server.should_exit = True
        wait_until(lambda: not any(one.is_serving() for one in server.server.servers))
        judge.may_answer.set()
    asking.join()

    assert [reply.counts.scored for reply in replies] == [1]


FAR_TOO_MANY_BYTES = 4096 * MOST_HEAD_BYTES
"""Far more than the sockets' buffers take before a caller hears that it was cut off."""

ENDLESS = {
    "one header": b"POST /reward HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 4096,
    "headers": b"POST /reward HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: b\r\n" * 512,
    "a target": b"GET /" + b"a" * 4096,
    "trailers": (
        b"POST /reward HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"1\r\n{\r\n0\r\n" + b"X-A: b\r\n" * 512
    ),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_head_without_an_end_is_refused(name: str) -> None:
    """A caller that goes on and on is cut off; it takes no more than a little memory."""
    start = ENDLESS[name]
    more = 16 * start[-4096:]

    with (
        listening(create_app(Settings(judge="scripted", embedder="hashed"))) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=120) as caller,
    ):
        caller.sendall(start)
        sent_bytes = 0
        with contextlib.suppress(ConnectionError):
            while sent_bytes < FAR_TOO_MANY_BYTES:
                sent_bytes += caller.send(more)

    assert sent_bytes < FAR_TOO_MANY_BYTES


HASHED = Settings(judge="scripted", embedder="hashed", recipe="medix-r1")
SHORT = 0.05
SAMPLE = {"response": "<answer>left</answer>", "reference": "left"}


@contextlib.contextmanager
def calling(server: Listener) -> Iterator[socket.socket]:
    """One connection to a server."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=120) as caller:
        yield caller


def to_the_end(caller: socket.socket) -> bytes:
    """Everything that comes until the other side closes."""
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := caller.recv(65536):
            parts.append(part)
    return b"".join(parts)


def request(content: bytes, *headers: bytes, length: int | None = None) -> bytes:
    """A request for rewards."""
    size = b"Content-Length: %d" % (len(content) if length is None else length)
    return b"\r\n".join(
        [b"POST /reward HTTP/1.1", b"Host: localhost", size, *headers, b"", content]
    )


LATE = {
    "nothing": b"",
    "half a head": b"POST /reward HTTP/1.1\r\nHost",
    "an empty line": b"\r\n",
    "half a second head": request(json.dumps({"samples": [SAMPLE]}).encode()) + b"GET /li",
}


@pytest.mark.parametrize("name", LATE)
def test_a_head_that_does_not_arrive_is_given_up(name: str) -> None:
    """The caller is told so by 408, also behind an earlier request, and the connection ends."""
    app = create_app(HASHED)
    with listening(app, bounds=Bounds(head_s=SHORT)) as server:
        wait_until(lambda: app.state.service.engines.status == "ready")
        with calling(server) as caller:
            caller.sendall(LATE[name])
            said = to_the_end(caller)

    *before, last = said.split(b"HTTP/1.1 ")[1:]
    assert last.startswith(b"408 ")
    assert [reply[:3] for reply in before] == ([b"200"] if "second" in name else [])


def test_an_answered_body_has_to_arrive_too() -> None:
    """A caller that was refused and goes on sending is cut off after the time of a body."""
    bounds = Bounds(body_s=SHORT)
    with listening(create_app(HASHED), bounds=bounds) as server, calling(server) as caller:
        caller.sendall(request(b"", length=10**9).replace(b"/reward", b"/nothing"))
        said = to_the_end(caller)

    assert said.startswith(b"HTTP/1.1 404 ")


def test_an_idle_connection_ends() -> None:
    """It is closed without a word, so that no request meets one that is not its own."""
    bounds = Bounds(idle_s=SHORT)
    with listening(create_app(HASHED), bounds=bounds) as server, calling(server) as caller:
        caller.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        said = to_the_end(caller)

    assert said.count(b"HTTP/1.1") == 1


OFFERS = {
    "HTTP/2": [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMA"],
    "TLS": [b"Connection: upgrade", b"Upgrade: TLS/1.2"],
    "a WebSocket": [b"Upgrade: websocket", b"Connection: keep-alive, Upgrade"],
}


@pytest.mark.parametrize("cuts", [[], [60], [40, 170, 200]])
@pytest.mark.parametrize("name", OFFERS)
def test_an_offer_of_another_protocol_is_ignored(name: str, cuts: list[int]) -> None:
    """Java's clients make one with each request: both are scored, however the bytes arrive."""
    content = json.dumps({"samples": [SAMPLE]}).encode()
    sent = request(content, *OFFERS[name]) + request(content, *OFFERS[name], b"Connection: close")
    app = create_app(HASHED)
    with listening(app) as server:
        wait_until(lambda: app.state.service.engines.status == "ready")
        with calling(server) as caller:
            caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
                caller.sendall(sent[start:end])
            said = to_the_end(caller)

    assert said.count(b"HTTP/1.1 200 ") == said.count(b'"status":"scored"') == 2


def test_a_proxy_is_not_what_this_is() -> None:
    """CONNECT offers no other protocol; it is refused."""
    with listening(create_app(HASHED)) as server, calling(server) as caller:
        caller.sendall(b"CONNECT x:1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert to_the_end(caller).startswith(b"HTTP/1.1 400 ")


def test_a_caller_that_asks_before_it_sends_is_refused_first() -> None:
    """A body that is declared too large is not asked for, and its connection is not used again."""
    app = create_app(HASHED)
    with listening(app) as server:
        wait_until(lambda: app.state.service.engines.status == "ready")
        with calling(server) as caller:
            caller.sendall(request(b"", b"Expect: 100-continue", length=99_000_000))
            said = to_the_end(caller)

    assert said.startswith(b"HTTP/1.1 413 ")


def test_connections_are_counted() -> None:
    """One too many is refused with 503, and the others are served."""
    bounds = Bounds(connections=2)
    with (
        listening(create_app(HASHED), bounds=bounds) as server,
        calling(server) as first,
        calling(server),
    ):
        wait_until(lambda: server.connections == 2)
        with calling(server) as third:
            refused = to_the_end(third)
        first.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        served = to_the_end(first)

    assert refused.startswith(b"HTTP/1.1 503 ")
    assert served.startswith(b"HTTP/1.1 200 ")


def test_files_are_kept_for_the_rest_of_the_process() -> None:
    """The soft limit of files is raised to the hard one, and connections stay below it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
    try:
        assert raise_file_limit() == (None if hard == resource.RLIM_INFINITY else hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert connections_within(1024, 8192) == 1024 - KEPT_FILES
    assert connections_within(128, 8192) == 64
    assert connections_within(None, 8192) == connections_within(10**6, 8192) == 8192


LONG_REPLY = json.dumps({"samples": [SAMPLE] * 16_384}).encode()
"""A request whose reply is longer than the buffers of a connection."""


def test_a_drain_waits_for_replies_on_their_way() -> None:
    """A reply that its caller has not read is in flight, its bytes too, until it is read."""
    app = create_app(HASHED)
    service = app.state.service
    with listening(app) as server, socket.socket() as caller:
        wait_until(lambda: service.engines.status == "ready")
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        caller.connect(("127.0.0.1", server.port))
        caller.sendall(request(LONG_REPLY, b"Connection: close"))
        wait_until(
            lambda: (
                service.admission.in_flight.requests == 0
                and service.admission.in_flight.body_bytes > 10**6
            )
        )
        service.lifecycle.begin()
        was = service.lifecycle.status, service.lifecycle.in_flight
        said = to_the_end(caller)
        wait_until(lambda: service.lifecycle.status == "drained")

    assert was == ("draining", 1)
    assert said.startswith(b"HTTP/1.1 200 ")
    assert service.admission.in_flight.body_bytes == 0


def test_a_reply_that_nobody_reads_is_given_up() -> None:
    """The caller has some time for it; then the connection ends, and its memory is free."""
    app = create_app(HASHED)
    service = app.state.service
    with listening(app, bounds=Bounds(reply_s=SHORT)) as server, socket.socket() as caller:
        wait_until(lambda: service.engines.status == "ready")
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        caller.connect(("127.0.0.1", server.port))
        caller.sendall(request(LONG_REPLY))
        # Uvicorn counts a reply that it has handed over, or whose caller has gone.
        wait_until(lambda: server.connections and service.lifecycle.in_flight)
        wait_until(lambda: not server.connections and not service.lifecycle.in_flight)

    assert service.admission.in_flight.body_bytes == 0


def test_long_work_is_not_begun_for_a_caller_that_has_gone() -> None:
    """While the thread is taken, a request that waits for it goes with its caller."""
    app = create_app(HASHED)
    service, is_free = app.state.service, threading.Event()
    with listening(app) as server:
        wait_until(lambda: service.engines.status == "ready")
        work = service.offload.run(is_free.wait, len(LONG_REPLY))
        working = threading.Thread(target=asyncio.run, args=[work])
        working.start()
        try:
            with calling(server) as caller:
                caller.sendall(request(LONG_REPLY))
                wait_until(lambda: service.admission.in_flight.body_bytes > len(LONG_REPLY))
            wait_until(lambda: service.admission.in_flight.requests == 0)
        finally:
            is_free.set()
            working.join()
