"""The service on a real socket, as uvicorn runs it."""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Sequence

import pytest
from fastapi import FastAPI

import medreward_client as client
from medreward.app import create_app
from medreward.engines.embedders.hashed import HashedEmbedder
from medreward.engines.judge import Inquiry, Judgement
from medreward.engines.judges.scripted import ScriptedJudge
from medreward.errors import Problem
from medreward.http.server import MOST_HEAD_BYTES
from medreward.settings import Settings
from tests.support.service import listening, served
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
            head = (
                f"POST /reward HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body(answer))}\r\n\r\n"
            )
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
        listening(create_app(Settings(judge="scripted", embedder="hashed"))) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=120) as caller,
    ):
        caller.sendall(start)
        sent_bytes = 0
        with contextlib.suppress(ConnectionError):
            while sent_bytes < FAR_TOO_MANY_BYTES:
                sent_bytes += caller.send(more)

    assert sent_bytes < FAR_TOO_MANY_BYTES
