"""What happens to a deployment under load, and what its callers saw of it.

Each takes a deployment that is whole and leaves it so.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from tests.deploy.live.fleet import Fleet, Keys, Roles
from tests.deploy.live.load import ConstantLoad, Load, constant_load, remember
from tests.deploy.live.processes import Replica, StandIn, eventually, wait_until_ready
from tests.redis_servers import RedisServer, Watched, free_port

BEFORE_S = 1.0
AFTER_S = 0.7
"""Of undisturbed load before and after the trouble."""


@dataclass
class Outcome:
    """What callers saw, and when what happened; times in seconds."""

    load: Load
    trouble_at_s: float = 0.0
    times_s: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


async def rolling_restart(
    fleet: Fleet,
    url: str | None = None,
    loading: Callable[[str], ConstantLoad] = constant_load,
    *,
    until_used: bool = False,
) -> Outcome:
    """Each replica in turn is ended by SIGTERM, and started anew at its address.

    With *until_used* the next one has to wait until this one has scored something, which takes a
    while behind a balancer that checks no readiness.
    """
    async with loading(url or fleet.balancer.url) as load:
        await asyncio.sleep(BEFORE_S)
        outcome = Outcome(load, time.monotonic())
        for one in fleet.replicas:
            ended_s = await asyncio.to_thread(one.restart_in_order)
            outcome.times_s[f"{one.name}: until it had ended"] = ended_s
            started_s = time.monotonic()
            await asyncio.to_thread(wait_until_ready, [one])
            await _until(fleet.balancer.has_all)
            if until_used:
                await _until(partial(_has_scored, one))
            back_s = time.monotonic() - started_s
            outcome.times_s[f"{one.name}: start until used again"] = back_s
        await asyncio.sleep(AFTER_S)
    return outcome


async def drain_and_take_back(fleet: Fleet) -> Outcome:
    """One replica drains by request, until nothing is in flight, and is taken back."""
    one = fleet.replicas[1]
    async with constant_load(fleet.balancer.url) as load:
        await asyncio.sleep(BEFORE_S)
        outcome = Outcome(load, time.monotonic())
        begun = await asyncio.to_thread(one.drain, "POST", "?wait_s=0")
        out_s = await _until(lambda: fleet.balancer.has_out(one.name))
        outcome.times_s["drain until out of the balancer"] = out_s
        drained = await asyncio.to_thread(one.drain, "POST")
        outcome.times_s["drain until drained"] = time.monotonic() - outcome.trouble_at_s
        served = one.metric("medreward_http_requests_total")
        await asyncio.sleep(AFTER_S)
        outcome.notes["requests while drained"] = str(
            round(one.metric("medreward_http_requests_total") - served)
        )
        taken_back = await asyncio.to_thread(one.drain, "DELETE")
        outcome.notes["statuses"] = f"{begun} {drained} {taken_back}"
        back_s = await _until(fleet.balancer.has_all)
        outcome.times_s["taken back until used again"] = back_s
        await asyncio.sleep(AFTER_S)
    return outcome


async def kill_one(fleet: Fleet, url: str | None = None) -> Outcome:
    """One replica ends with SIGKILL while it works, and is started anew."""
    one = fleet.replicas[0]
    async with constant_load(url or fleet.balancer.url) as load:
        await asyncio.sleep(BEFORE_S)
        await _until(lambda: one.metric("medreward_inflight_requests") > 1)
        outcome = Outcome(load, time.monotonic())
        await asyncio.to_thread(one.kill)
        outcome.times_s["killed until it was gone"] = time.monotonic() - outcome.trouble_at_s
        out_s = await _until(lambda: fleet.balancer.has_out(one.name))
        outcome.times_s["killed until out of the balancer"] = out_s
        one.spawn()
        back_s = await _until(fleet.balancer.has_all)
        outcome.times_s["start until used again"] = back_s
        await asyncio.sleep(AFTER_S)
    return outcome


async def judge_away(
    fleet: Fleet, judge: StandIn, keys: Keys, *, lasts_s: float = 2.0, deadline_s: float = 60.0
) -> Outcome:
    """The judge's server dies and comes back; meanwhile the keys are rotated."""
    for one in fleet.replicas:
        await remember(one.url, keys.sent.key)
    async with constant_load(fleet.balancer.url, sent_key=keys.sent, deadline_s=deadline_s) as load:
        await asyncio.sleep(BEFORE_S)
        outcome = Outcome(load, time.monotonic())
        await asyncio.to_thread(judge.kill)
        outcome.times_s["killed until all replicas say so"] = await _until(
            lambda: "ready" not in fleet.states()
        )
        if not any(one.is_ready() for one in fleet.replicas):
            out_s = await _until(lambda: fleet.balancer.has_all("DOWN"))
            outcome.times_s["said until out of the balancer"] = out_s
        outcome.notes["states"] = " ".join(sorted(fleet.states()))
        await _rotate(fleet, keys, outcome)
        await asyncio.sleep(outcome.trouble_at_s + lasts_s - time.monotonic())
        judge.spawn()
        await asyncio.to_thread(judge.wait_until_ready)
        back_s = await _until(lambda: fleet.states() == {"ready"})
        outcome.times_s["back until all replicas use it"] = back_s
        await _until(fleet.balancer.has_all)
        await asyncio.sleep(AFTER_S)
        outcome.notes["replicas never restarted"] = str(
            sum(one.is_running for one in fleet.replicas)
        )
    return outcome


async def _rotate(fleet: Fleet, keys: Keys, outcome: Outcome) -> None:
    """Accept a new key beside the old one, send the new one, and then accept that alone."""
    old, new = keys.sent.key, f"{keys.sent.key}-next"
    keys.accept(old, new)
    outcome.times_s["new key written until accepted"] = await _until(
        lambda: all(one.accepts(new) for one in fleet.replicas)
    )
    keys.sent.key = new
    await _until(lambda: not keys.sent.unanswered[old])
    keys.accept(new)
    outcome.times_s["old key removed until refused"] = await _until(
        lambda: not any(one.accepts(old) for one in fleet.replicas)
    )


@dataclass(frozen=True)
class RedisTrouble:
    """A way for Redis to be in trouble, what replicas say of it then, and its end."""

    name: str
    said: str
    begin: Callable[[RedisServer], None]
    end: Callable[[RedisServer], None]


def fill(server: RedisServer) -> None:
    """Let it be full: it answers, and takes no more."""
    server.client.config_set("maxmemory-policy", "noeviction")
    server.client.config_set("maxmemory", "1")


def make_room(server: RedisServer) -> None:
    """Let it take more again."""
    server.client.config_set("maxmemory", "0")


def demote(server: RedisServer) -> None:
    """Let it be a replica of a master that is gone: it may be read, and not written."""
    server.client.replicaof("127.0.0.1", free_port())


def promote(server: RedisServer) -> None:
    """Let it be the master again."""
    server.client.replicaof("NO", "ONE")


REDIS_TROUBLES = (
    RedisTrouble("frozen", "not answering", RedisServer.freeze, RedisServer.thaw),
    RedisTrouble("killed", "not answering", RedisServer.kill, RedisServer.start),
    RedisTrouble("full", "refuses to write", fill, make_room),
    RedisTrouble("a replica", "refuses to write", demote, promote),
)


async def redis_in_trouble(
    fleet: Fleet, server: RedisServer, trouble: RedisTrouble, *, lasts_s: float = 2.0
) -> Outcome:
    """Redis is in trouble for a while; replicas notice it, and when it is over."""
    async with constant_load(fleet.balancer.url) as load:
        await asyncio.sleep(BEFORE_S)
        outcome = Outcome(load, time.monotonic())
        await asyncio.to_thread(trouble.begin, server)
        noticed_s = await _until(lambda: fleet.redis_state() == {trouble.said})
        outcome.times_s["until all replicas leave it alone"] = noticed_s
        await asyncio.sleep(lasts_s)
        outcome.notes["ready replicas"] = str(sum(one.is_ready() for one in fleet.replicas))
        await asyncio.to_thread(trouble.end, server)
        back_s = await _until(lambda: fleet.redis_state() == {"answering"})
        outcome.times_s["over until all replicas use it"] = back_s
        await _note_growth(server, outcome)
    return outcome


async def redis_failover(fleet: Fleet, watched: Watched) -> Outcome:
    """The master is killed, and its sentinel promotes the replica."""
    async with constant_load(fleet.balancer.url) as load:
        await asyncio.sleep(BEFORE_S)
        outcome = Outcome(load, time.monotonic())
        await asyncio.to_thread(watched.master.kill)
        await _until(lambda: "not answering" in fleet.redis_state())
        await _until(lambda: fleet.redis_state() == {"answering"})
        back_s = time.monotonic() - outcome.trouble_at_s
        outcome.times_s["killed until all replicas use the new master"] = back_s
        await _note_growth(watched.replica, outcome)
    return outcome


async def kill_judges(roles: Roles, number: int, *, gone_s: float = 1.0) -> Outcome:
    """Some judge processes end with SIGKILL while they work, and are started anew."""
    killed = roles.judges[:number]
    async with constant_load(roles.api.url) as load:
        await asyncio.sleep(BEFORE_S)
        await _until(lambda: all(one.metric("medreward_inflight_requests") > 0 for one in killed))
        outcome = Outcome(load, time.monotonic())
        for one in killed:
            await asyncio.to_thread(one.kill)
        await asyncio.sleep(gone_s)
        for one in killed:
            one.spawn()
        await asyncio.to_thread(wait_until_ready, killed)
        for one in killed:
            await _note_asked_again(roles, one, outcome)
        await asyncio.sleep(AFTER_S)
    return outcome


async def rolling_restart_of_judges(roles: Roles) -> Outcome:
    """Each judge process in turn is ended by SIGTERM, and started anew."""
    async with constant_load(roles.api.url) as load:
        await asyncio.sleep(BEFORE_S)
        outcome = Outcome(load, time.monotonic())
        for one in roles.judges:
            ended_s = await asyncio.to_thread(one.restart_in_order)
            outcome.times_s[f"{one.name}: until it had ended"] = ended_s
            await asyncio.to_thread(wait_until_ready, [one])
            await _note_asked_again(roles, one, outcome)
        await asyncio.sleep(AFTER_S)
    return outcome


async def _note_growth(server: RedisServer, outcome: Outcome) -> None:
    """See that what is judged now is remembered there again."""
    remembered = server.client.dbsize()
    await _until(lambda: server.client.dbsize() > remembered)
    outcome.notes["remembers again"] = "yes"


async def _note_asked_again(roles: Roles, judge: Replica, outcome: Outcome) -> None:
    """Wait until a judge is asked for more than which engine it holds, where that is certain."""
    if roles.knows_each:
        asked = judge.metric("medreward_judge_calls_total")
        took_s = await _until(lambda: judge.metric("medreward_judge_calls_total") > asked)
        outcome.times_s[f"{judge.name}: ready until asked again"] = took_s


def _has_scored(one: Replica) -> bool:
    return one.metric("medreward_samples_total") > 0


async def _until(is_so: Callable[[], bool]) -> float:
    return await asyncio.to_thread(eventually, is_so)
