"""Checks of the service itself: key, versions, engines, plausible rewards, latency, clock."""

import secrets
import ssl
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from importlib.metadata import version as version_of

from medreward_client._cli.target import Caution, Failure, Target
from medreward_client._client import RewardClient
from medreward_client._errors import MedrewardError, Overloaded, TimedOut
from medreward_client._types import Sample, Scored, Unscored

REWARD_DEADLINE_S = 60.0
ROUND_TRIPS = 5
SLOW_MS = 50.0
CLOCK_TOLERANCE_S = 30.0
RIGHT_ANSWER = "consolidation of the left lower lobe"
WRONG_ANSWER = "a fracture of the right femur, seen in case {nonce}"


def check_key(target: Target) -> str | Caution:
    """Check that the key is accepted, if one is needed."""
    key = target.api_key
    if key is not None and not (key.isascii() and key.isprintable() and key.strip() == key != ""):
        raise Failure(
            "the key is empty, or holds a line break, a blank or signs that no key has",
            "set MEDREWARD_API_KEY to the key alone",
        )
    if target.version.status == HTTPStatus.UNAUTHORIZED:
        if key is None:
            raise Failure(
                "the service asks for a key, and none was given",
                "set MEDREWARD_API_KEY to one of the service's MEDREWARD_API_KEYS",
            )
        raise Failure(
            "the service does not know this key",
            "compare it with the service's MEDREWARD_API_KEYS; ask whoever runs it",
        )
    if key is None:
        return "none was given, and none is needed"
    if target.get("/version").status == HTTPStatus.OK:
        return Caution(
            "one was given, and the service asks for none", "no harm; it can be left out"
        )
    return "accepted"


def check_versions(target: Target) -> str | Caution:
    """Compare the versions of client and service."""
    client = version_of("medreward-client")
    service = target.version.said.get("service")
    if not isinstance(service, str):
        raise Failure(
            f"/version answers HTTP {target.version.status}, and not as medreward would",
            "look at what stands between here and the service",
        )
    found = f"client {client}, service {service}"
    if client.split(".")[:2] != service.split(".")[:2]:
        return Caution(found, "they differ; if a look below fails, update the older one")
    return found


def check_engines(target: Target) -> str | Caution:
    """Check that the judge and the embedder are ready."""
    with _client(target) as client:
        health = client.health()
    missing = "; ".join(
        f"the {role} {engine.model}: {engine.message}"
        for role, engine in health.engines.items()
        if not engine.ready
    )
    if health.status == "degraded":
        return Caution(
            f"degraded: {missing}",
            "caches and rules give rewards; other samples are unscored until it is back",
        )
    if health.ready:
        engines = health.engines.items()
        return ", ".join(f"{role} {engine.model}" for role, engine in engines) + " are ready"
    advice = {
        "loading": "wait: large models take minutes to load, and longer to be fetched at first",
        "failed": "mend its settings, or start what it needs, and start the service again",
        "stalled": "its event loop stands still: look at the load of its machine",
        "draining": "it is being stopped: wait for the one that takes its place",
    }
    raise Failure(
        f"the service is {health.status}" + (f": {missing}" if missing else ""),
        advice.get(health.status, "look at the service's log"),
    )


def check_scores(target: Target) -> str:
    """Check that samples get rewards, and a right answer a higher one than a wrong answer."""
    # New to every cache, so that the judge and the embedder are called.
    wrong = WRONG_ANSWER.format(nonce=secrets.token_hex(4))
    samples = [
        Sample(
            f"<thinking>Look at the base of the lung.</thinking><answer>{answer}</answer>",
            RIGHT_ANSWER,
            id=name,
            question="What is seen, and where?",
        )
        for name, answer in (("right", RIGHT_ANSWER), ("wrong", wrong))
    ]
    began_s = time.perf_counter()
    with _client(target) as client:
        reply = client.reward(samples, recipe=target.recipe, deadline_s=REWARD_DEADLINE_S)
    took_ms = 1000 * (time.perf_counter() - began_s)
    match reply.results:
        case (Scored(reward=right), Scored(reward=other)):
            judge_ms, embed_ms = (reply.timings_ms.get(name, 0.0) for name in ("judge", "embed"))
            found = (
                f"right answer {right:g}, wrong answer {other:g} ({reply.provenance.recipe}), "
                f"in {took_ms:.0f} ms (judge {judge_ms:.0f}, embed {embed_ms:.0f})"
            )
            if right > other:
                return found
            raise Failure(
                found,
                "the service takes a wrong answer for a right one: do not train on this judge "
                "and this recipe",
            )
        case (Unscored(error=error), _) | (_, Unscored(error=error)):
            raise Failure(
                f"a sample came back unscored: {error.kind}, {error.message}",
                _advice_for(error.kind),
            )
    raise Failure("two samples, and not two results", "look at what stands in between")


def _advice_for(kind: str) -> str:
    engine = "embedder" if kind.startswith("embedder") else "judge"
    if kind.endswith("unreachable"):
        return f"start the {engine}'s server, or mend its URL in the service's settings"
    if kind.endswith("timeout") or kind == "deadline":
        return f"the {engine} is too slow or overloaded: look at its server, or wait longer"
    return f"look at the {engine}'s model and at the service's log"


def check_distance(target: Target) -> str | Caution:
    """Measure the round trip of a request."""
    took_ms = []
    with _client(target) as client:
        for _ in range(ROUND_TRIPS + 1):
            began_s = time.perf_counter()
            client.health()
            took_ms.append(1000 * (time.perf_counter() - began_s))
    # Without the first, which opens the connection.
    median_ms = statistics.median(took_ms[1:])
    found = f"{median_ms:.1f} ms there and back (median of {ROUND_TRIPS})"
    if median_ms > SLOW_MS:
        return Caution(found, "far away: send many samples at once, and a step ahead if you can")
    return found


def check_clock(target: Target) -> str | Caution:
    """Compare both clocks, which have to agree for logs to be compared."""
    with suppress(TypeError, ValueError):
        theirs = parsedate_to_datetime(target.get("/livez").headers["Date"])
        off_s = (datetime.now(UTC) - theirs).total_seconds()
        if abs(off_s) <= CLOCK_TOLERANCE_S:
            return "agrees with the service's"
        return Caution(
            f"{abs(off_s):.0f} s {'ahead of' if off_s > 0 else 'behind'} the service's",
            "logs of both will not fit together, and certificates may seem not to be valid",
        )
    return "the service tells no time"


@contextmanager
def _client(target: Target) -> Iterator[RewardClient]:
    """Open the client that every program uses; its errors are raised as Failure, with advice."""
    try:
        with RewardClient(target.url, api_key=target.api_key) as client:
            yield client
    except MedrewardError as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                raise Failure(
                    f"the client does not trust the certificate: {cause.verify_message}",
                    "let SSL_CERT_FILE name the file of your organisation's certificates",
                ) from error
            cause = cause.__cause__ or cause.__context__
        raise Failure(
            f"{type(error).__name__}: {error}", _advice(error) + target.way_around
        ) from error


def _advice(error: MedrewardError) -> str:
    if isinstance(error, Overloaded):
        return f"the service is full: come back in {error.retry_after_s:g} s"
    if isinstance(error, TimedOut):
        return "the service is alive and slow: look at its load and at its engines"
    return "look at the service's log"
