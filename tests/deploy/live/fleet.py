"""Whole deployments on this machine: replicas behind a balancer, and roles in processes of their own."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.deploy.live.balancers import Balancer, by_connections, haproxy
from tests.deploy.live.load import SentKey
from tests.deploy.live.processes import (
    Replica,
    StandIn,
    looking,
    running,
    stand_in,
    wait_until_ready,
)

NAMES = ("one", "two", "three")
MODELS_DELAY_MS = 200
"""Of each batch, so that there are always some requests in flight."""


@dataclass(frozen=True)
class Fleet:
    """Replicas behind HAProxy."""

    replicas: list[Replica]
    balancer: Balancer

    def named(self, name: str) -> Replica:
        """One of them."""
        return next(one for one in self.replicas if one.name == name)

    def states(self) -> set[str]:
        """What the replicas say of themselves, such as ready or degraded."""
        return {one.state() for one in self.replicas}

    def redis_state(self) -> set[str]:
        """What the replicas say of Redis, without for how long."""
        return {redis_state(one) for one in self.replicas}


@dataclass
class Keys:
    """The keys of a fleet, in a folder of secrets as its replicas read it."""

    folder: Path
    sent: SentKey = field(default_factory=SentKey)

    def accept(self, *keys: str) -> None:
        """Write the file as `printf` in a shell does; all keys have one name."""
        named = ",".join(f"train:={key}" for key in keys)
        (self.folder / "medreward_api_keys").write_text(named, "utf-8")


@dataclass(frozen=True)
class Roles:
    """An `api`, and the `judge` processes that it asks."""

    api: Replica
    judges: list[Replica]
    knows_each: bool
    """Else the `api` has connections to one address, and they stay with whom they are."""


def redis_state(one: Replica) -> str:
    """What a replica says of Redis: answering, refuses to write, or not answering."""
    told = str(looking().get(f"{one.admin_url}/readyz").json()["cache"])
    states = ("not answering", "refuses to write", "answering")
    return next(state for state in states if state in told)


@contextmanager
def fleet(
    folder: Path, *, count: int = 3, quick: bool = True, **settings: object
) -> Iterator[Fleet]:
    """Replicas, ready, behind HAProxy; *quick* hurries probes and drain, else they are as shipped."""
    with stand_in(delay_ms=MODELS_DELAY_MS) as models:
        remote = {"profile": "remote", "judge_url": models, "embedder_url": models}
        with fleet_of(folder, count=count, quick=quick, **remote, **settings) as made:
            yield made


@contextmanager
def fleet_and_judge(
    folder: Path, *, quick: bool = True, **settings: object
) -> Iterator[tuple[Fleet, StandIn, Keys]]:
    """The same with keys, and with the judge's server as a process of its own that can be away."""
    judge, keys = StandIn(delay_ms=MODELS_DELAY_MS), Keys(folder)
    keys.accept(keys.sent.key)
    with stand_in(delay_ms=MODELS_DELAY_MS) as embedder, running(judge):
        judge.wait_until_ready()
        remote: dict[str, object] = {
            "profile": "remote",
            "judge_url": judge.url,
            "embedder_url": embedder,
            "secrets_dir": keys.folder,
        }
        with fleet_of(folder, count=3, quick=quick, **remote, **settings) as made:
            yield made, judge, keys


@contextmanager
def fleet_of(folder: Path, *, count: int, quick: bool, **settings: object) -> Iterator[Fleet]:
    """The same with engines as the settings say."""
    drain_delay_s = 1.5 if quick else 10
    chosen = {"drain_delay_s": drain_delay_s, **settings}
    replicas = [Replica(name, **chosen) for name in NAMES[:count]]
    with running(*replicas):
        wait_until_ready(replicas)
        with haproxy(folder, replicas, quick=quick) as balancer:
            yield Fleet(replicas, balancer)


@contextmanager
def roles(folder: Path, *, knows_each: bool) -> Iterator[Roles]:
    """An `api` and two `judge`, ready, with a stand-in for the models.

    It knows the addresses of both, or one address where connections are balanced.
    """
    drain_delay_s = 0 if knows_each else 1.5
    with stand_in(delay_ms=MODELS_DELAY_MS) as models:
        engine = {"role": "judge", "profile": "remote", "judge_url": models}
        judges = [
            Replica(f"judge-{name}", drain_delay_s=drain_delay_s, **engine) for name in NAMES[:2]
        ]
        with running(*judges):
            wait_until_ready(judges)
            with (
                _known_as(folder, judges, knows_each=knows_each) as urls,
                _asking(models, urls) as api,
            ):
                yield Roles(api, judges, knows_each)


@contextmanager
def _known_as(folder: Path, judges: list[Replica], *, knows_each: bool) -> Iterator[str]:
    if knows_each:
        yield ",".join(judge.url for judge in judges)
        return
    with by_connections(folder, judges) as url:
        yield url


@contextmanager
def _asking(models: str, judge_url: str) -> Iterator[Replica]:
    api = Replica(
        "api",
        role="api",
        judge_url=judge_url,
        embedder="openai",
        embedder_model="abhinand/MedEmbed-large-v0.1",
        embedder_url=models,
    )
    with running(api):
        wait_until_ready([api])
        yield api
