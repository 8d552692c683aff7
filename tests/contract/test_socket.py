"""The service on a real socket, as uvicorn runs it."""

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import pytest
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

import medreward_client as client
from medreward.app import create_app
from medreward.engines.embedders.hashed import HashedEmbedder
from medreward.engines.judge import Inquiry, Judgement
from medreward.engines.judges.scripted import ScriptedJudge
from medreward.errors import Problem
from medreward.http.server import MOST_HEAD_BYTES, server_config
from medreward.settings import Settings

Listening = Callable[[FastAPI], AbstractContextManager[int]]


@contextmanager
def listening(app: ASGIApp) -> Iterator[int]:
    """Serve an app on a free port of loopback, in a thread; give the port."""
    server = uvicorn.Server(server_config(app, port=0))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def wait_for(is_so: Callable[[], bool]) -> None:
    """Wait until something is so, at most five seconds."""
    give_up = time.monotonic() + 5
    while not is_so():
        assert time.monotonic() < give_up
        time.sleep(0.005)


class SlowJudge(ScriptedJudge):
    """A judge that takes its time after the warm-up."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    async def decide(self, inquiries: Sequence[Inquiry]) -> Sequence[Judgement | Problem]:
        """Wait, unless it is the first time; then answer."""
        if self.batches:
            await asyncio.sleep(self._seconds)
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
    with (
        listening(app_with(ScriptedJudge())) as port,
        client.RewardClient(f"http://127.0.0.1:{port}") as service,
    ):
        wait_for(lambda: service.health().ready)
        reply = service.reward([client.Sample(response="a b", reference="A B")])

    assert list(reply.rewards) == [pytest.approx(0.855 / 0.955)]


@pytest.mark.anyio
async def test_a_caller_that_hangs_up_frees_its_place_and_its_question() -> None:
    """Uvicorn's disconnect reaches the pipeline: nothing stays in flight or in the queue."""
    app = app_with(SlowJudge(60.0))
    service = app.state.service
    with listening(app) as port:
        await asyncio.to_thread(wait_for, lambda: service.engines.status == "ready")
        for answer in ("the first", "the second"):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            head = (
                f"POST /reward HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body(answer))}\r\n\r\n"
            )
            writer.write(head.encode() + body(answer))
            await writer.drain()
            await asyncio.to_thread(wait_for, lambda: service.admission.in_flight.questions == 1)
            writer.close()
            await asyncio.to_thread(wait_for, lambda: service.admission.in_flight.requests == 0)

        exposition = service.metrics.exposition().decode()

    assert 'medreward_queue_depth{role="judge"} 0.0' in exposition
    assert 'route="/reward"' in exposition
    assert 'code="499"' in exposition


def test_a_service_that_stops_finishes_what_it_has() -> None:
    """A request in flight gets its reply before the process goes."""
    app = app_with(SlowJudge(0.2))
    replies: list[client.RewardReply] = []

    def ask(port: int) -> None:
        with client.RewardClient(f"http://127.0.0.1:{port}") as service:
            sample = client.Sample(
                response="<answer>basal left</answer>", reference="left lower lobe"
            )
            replies.append(service.reward([sample]))

    with listening(app) as port:
        wait_for(lambda: app.state.service.engines.status == "ready")
        asking = threading.Thread(target=ask, args=[port])
        asking.start()
        wait_for(lambda: app.state.service.admission.in_flight.questions == 1)
    asking.join()

    assert [reply.counts.scored for reply in replies] == [1]


FAR_TOO_MANY_BYTES = 4096 * MOST_HEAD_BYTES
"""Far more than the sockets' buffers take before a caller hears that it was cut off."""

ENDLESS = {
    "one header": b"POST /reward HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 4096,
    "headers": b"POST /reward HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 512,
    "a target": b"GET /" + b"a" * 4096,
    "trailers": (
        b"POST /reward HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"1\r\n{\r\n0\r\n" + b"X-A: b\r\n" * 512
    ),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_head_without_an_end_is_refused(name: str) -> None:
    """A caller that goes on and on is cut off; it takes no more than a little memory."""
    start = ENDLESS[name]
    more = 16 * start[-4096:]

    with (
        listening(create_app(Settings(judge="scripted", embedder="hashed"))) as port,
        socket.create_connection(("127.0.0.1", port), timeout=10) as caller,
    ):
        caller.sendall(start)
        sent_bytes = 0
        with contextlib.suppress(ConnectionError):
            while sent_bytes < FAR_TOO_MANY_BYTES:
                sent_bytes += caller.send(more)

    assert sent_bytes < FAR_TOO_MANY_BYTES
