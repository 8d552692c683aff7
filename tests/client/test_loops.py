"""One client in many event loops, threads and processes."""

import asyncio
import gc
import multiprocessing
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from medreward_client import (
    AsyncRewardClient,
    MedrewardError,
    RewardClient,
    RewardReply,
    Sample,
    TimedOut,
)
from medreward_client._batching import RewardRoute
from medreward_client._http import Reply
from medreward_client._loops import run_in_background, start_in_background
from medreward_client._types import Terms
from tests.client.stand_in import SCORED, URL, reward_body
from tests.support.service import Listener, listening
from tests.support.wait import wait_until

# Python warns of what is tested here: a fork of a process that has threads.
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")

SAMPLE = Sample("<answer>left</answer>", "left")


async def score_all(scope: Scope, receive: Receive, send: Send) -> None:
    """Score everything 1."""
    body = orjson.loads(await Request(scope, receive).body())
    rows = [SCORED | {"id": sample["id"]} for sample in body["samples"]]
    reply = Response(orjson.dumps(reward_body(*rows)), media_type="application/json")
    await reply(scope, receive, send)


@pytest.fixture(scope="module")
def service() -> Iterator[Listener]:
    """Run a service that scores everything 1, on a real socket."""
    with listening(score_all, lifespan="off") as running:
        yield running


def rewards_of(client: RewardClient) -> tuple[float | None, ...]:
    """Score a sample, in whichever process or thread this runs."""
    return client.reward([SAMPLE]).rewards


def rewards_in_a_loop(client: AsyncRewardClient) -> tuple[float | None, ...]:
    """Score a sample in an event loop that lives for it alone."""

    async def score() -> RewardReply:
        return await client.reward([SAMPLE])

    return asyncio.run(score()).rewards


def test_a_client_outlives_its_event_loops(service: Listener) -> None:
    """`asyncio.run` at each step, as some trainers do it, needs no new client, and nothing leaks."""
    client = AsyncRewardClient(service.url)

    assert [rewards_in_a_loop(client) for _ in range(3)] == [(1.0,)] * 3
    # A connection left open would warn when it is collected, and warnings are errors.
    gc.collect()
    wait_until(lambda: service.connections == 0)
    assert service.connections == 0


def test_loops_that_run_at_the_same_time_share_a_client(service: Listener) -> None:
    """Each has connections of its own."""
    client = AsyncRewardClient(service.url)

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(rewards_in_a_loop, [client] * 8))

    assert found == [(1.0,)] * 8


async def in_one_loop(client: AsyncRewardClient, calls: int) -> None:
    """Make concurrent calls repeatedly on one loop."""
    for _ in range(3):
        await asyncio.gather(*(client.reward([SAMPLE]) for _ in range(calls)))


def test_connections_are_kept_for_the_next_call(service: Listener) -> None:
    """Successive calls on one loop share a connection."""
    opened = []

    async def count() -> None:
        async with AsyncRewardClient(service.url) as client:
            await in_one_loop(client, 1)
            opened.append(service.connections)

    asyncio.run(count())

    assert opened == [1]


KEEPALIVE_TIMER = "02"


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="Linux shows the timers there")
def test_a_host_that_vanishes_is_noticed(service: Listener) -> None:
    """The kernel probes a silent connection."""
    port = f":{int(service.url.rpartition(':')[2]):04X}"
    with RewardClient(service.url) as client:
        rewards_of(client)
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
        timers = [row[5][:2] for row in rows if row[2].endswith(port)]

    assert KEEPALIVE_TIMER in timers


def test_a_blocking_client_works_inside_a_running_loop(service: Listener) -> None:
    """A synchronous reward function may be called from a trainer's event loop."""

    async def inside() -> tuple[float | None, ...]:
        return rewards_of(client)

    with RewardClient(service.url) as client:
        assert asyncio.run(inside()) == (1.0,)


def test_threads_share_a_blocking_client() -> None:
    """Concurrent calls of several threads share a request."""
    sizes: list[int] = []
    barrier = threading.Barrier(16)

    def answer(request: httpx.Request) -> httpx.Response:
        count = request.content.count(b'"response"')
        sizes.append(count)
        return httpx.Response(200, json=reward_body(*[SCORED | {"id": None}] * count))

    with RewardClient(URL, transport=httpx.MockTransport(answer)) as client:

        def ask(_: int) -> object:
            barrier.wait()
            return client.reward(SAMPLE)

        with ThreadPoolExecutor(16) as threads:
            results = list(threads.map(ask, range(16)))

    assert len(results) == sum(sizes) == 16
    assert len(sizes) < 16


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_blocking_client_crosses_into_other_processes(start: str, service: Listener) -> None:
    """Pickled or forked, a client works, even if it was used before."""
    with RewardClient(service.url) as client:
        before = rewards_of(client)
        context = multiprocessing.get_context(start)
        with ProcessPoolExecutor(2, mp_context=context) as processes:
            found = list(processes.map(rewards_of, [client] * 4))
        after = rewards_of(client)

    assert [before, *found, after] == [(1.0,)] * 6


def test_an_inherited_client_makes_connections_of_its_own(service: Listener) -> None:
    """A forked worker that uses the very client of its parent does not use its sockets."""
    client = RewardClient(service.url)
    before = rewards_of(client)
    context = multiprocessing.get_context("fork")
    said = context.SimpleQueue()

    def work() -> None:
        said.put(rewards_of(client))

    child = context.Process(target=work)
    child.start()
    child.join(20)

    assert child.exitcode == 0
    assert [before, said.get(), rewards_of(client)] == [(1.0,)] * 3
    client.close()


@pytest.mark.parametrize("kind", [AsyncRewardClient, RewardClient])
def test_a_pickled_client_is_like_the_first(kind: type[AsyncRewardClient | RewardClient]) -> None:
    """A pickled client keeps its address, key and deadline, and no connections."""
    client = kind(URL, api_key="s3cret", deadline_s=7.0)

    copied = pickle.loads(pickle.dumps(client))  # noqa: S301 - our own bytes

    assert type(copied) is kind
    assert pickle.dumps(copied) == pickle.dumps(client)


def test_loops_that_are_closed_are_forgotten() -> None:
    """A run with `asyncio.run` at each step does not keep the loops of all its steps."""
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=reward_body(SCORED)))
    client = AsyncRewardClient(URL, transport=transport)

    async def step() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        # More than may be in flight: who waits for a place holds on to the loop.
        await asyncio.gather(*(client.reward([SAMPLE]) for _ in range(20)))

    for _ in range(4):
        asyncio.run(step())
    gc.collect()

    assert sum(loop() is not None for loop in loops) <= 1


async def no_reply() -> httpx.Response:
    """Never respond."""
    await asyncio.Event().wait()
    raise AssertionError


async def come_back_later() -> httpx.Response:
    """Let the caller pause before it tries again."""
    return httpx.Response(503, headers={"Retry-After": "200"})


@pytest.mark.parametrize("asked", [SAMPLE, [SAMPLE]], ids=["gathered", "at once"])
@pytest.mark.parametrize("respond", [no_reply, come_back_later])
def test_closing_ends_the_calls_that_wait(
    asked: Any, respond: Callable[[], Awaitable[httpx.Response]]
) -> None:
    """They raise a MedrewardError, and send nothing on closed connections."""
    is_asked = threading.Event()

    async def answer(_: httpx.Request) -> httpx.Response:
        is_asked.set()
        return await respond()

    client = RewardClient(URL, transport=httpx.MockTransport(answer))
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.reward, asked)
        is_asked.wait()
        client.close()
        with pytest.raises(MedrewardError, match="the client was closed"):
            waiting.result(timeout=60)


def test_a_call_that_does_not_end_is_given_up() -> None:
    """The work is over its time by more than the grace."""
    long_ago_s = -1000.0

    with pytest.raises(TimedOut, match="event loop stands still"):
        run_in_background(asyncio.Event().wait, long_ago_s)


def test_work_that_is_cancelled_before_its_loop_reaches_it_has_no_coroutine() -> None:
    """One that exists and is never awaited would warn, as after Ctrl-C."""
    made: list[str] = []
    is_free = threading.Event()

    async def occupy_the_loop() -> None:
        is_free.wait()

    def work(name: str) -> Coroutine[Any, Any, None]:
        made.append(name)
        return asyncio.sleep(0)

    occupied = start_in_background(occupy_the_loop)
    cancelled = start_in_background(partial(work, "cancelled"))
    assert cancelled.cancel()
    is_free.set()
    occupied.result(timeout=60)
    run_in_background(partial(work, "later"), 60)

    assert made == ["later"]
    assert wait([cancelled], timeout=60).not_done == set()


def test_a_task_dies_on_its_loop() -> None:
    """In the main thread Python would drop a Ctrl-C that comes while its weak references are told."""
    died_in: list[str] = []
    is_dead = threading.Event()

    def note(_: object) -> None:
        died_in.append(threading.current_thread().name)
        is_dead.set()

    async def work() -> "weakref.ref[asyncio.Task[Any]]":
        task = asyncio.current_task()
        assert task is not None
        return weakref.ref(task, note)

    future = start_in_background(work)
    reference = future.result(timeout=60)

    assert is_dead.wait(timeout=60)
    assert died_in == ["medreward-client"]
    assert reference() is None


def test_cancelled_work_ends_where_it_waits() -> None:
    """Its coroutine is told, and the loop goes on."""
    is_waiting, is_told = threading.Event(), threading.Event()

    async def wait_for_ever() -> None:
        is_waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            is_told.set()

    future = start_in_background(wait_for_ever)
    is_waiting.wait()
    assert future.cancel()

    assert is_told.wait(timeout=60)


@pytest.mark.slow
def test_a_blocking_call_ends_though_its_loop_stands_still() -> None:
    """No timeout of the loop ends it then, so the call has an end of its own."""
    program = f"""
import threading, httpx
from medreward_client import RewardClient, Sample, TimedOut
transport = httpx.MockTransport(lambda _: threading.Event().wait())
try:
    RewardClient({URL!r}, transport=transport).reward([Sample("a", "b")], deadline_s=0.1)
except TimedOut as error:
    print(error)
"""
    found = subprocess.run(  # noqa: S603 - this interpreter
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )

    assert "event loop stands still" in found.stdout


def reply_of(rows: list[Any]) -> RewardReply:
    """Make a reply whose results are not yet read."""
    read = RewardRoute(Terms()).call([SAMPLE]).read
    whole = read(Reply(200, {}, orjson.dumps(reward_body(SCORED))))
    return replace(whole, rows=rows)


def test_a_fork_while_results_are_read_leaves_no_lock_behind() -> None:
    """Whatever a thread of the parent holds, the child has nobody to release it."""
    is_reading, go_on = threading.Event(), threading.Event()

    class Held(list[Any]):
        def __iter__(self) -> Iterator[Any]:
            is_reading.set()
            go_on.wait(60)
            return super().__iter__()

    held, free = reply_of(Held([SCORED])), reply_of([SCORED])
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(lambda: held.results)
        is_reading.wait()
        child = multiprocessing.get_context("fork").Process(target=lambda: free.results)
        child.start()
        child.join(20)
        child.kill()
        go_on.set()

    assert child.exitcode == 0
    assert reading.result() == free.results


@pytest.mark.slow
def test_forks_under_traffic_all_return(service: Listener) -> None:
    """Each child scores, though threads of its parent were in the middle of it."""
    client, is_over = RewardClient(service.url), threading.Event()
    context = multiprocessing.get_context("fork")

    def work() -> None:
        assert rewards_of(client) == (1.0,)
        assert gc.isenabled()

    def traffic() -> None:
        while not is_over.is_set():
            assert client.reward([SAMPLE] * 8).results

    with ThreadPoolExecutor(4) as threads:
        busy = [threads.submit(traffic) for _ in range(4)]
        codes = []
        for _ in range(100):
            child = context.Process(target=work)
            child.start()
            child.join(20)
            child.kill()
            codes.append(child.exitcode)
        is_over.set()

    assert codes == [0] * 100
    assert all(one.exception() is None for one in busy)
    client.close()
