"""A reward service on a socket with scripted replies: the only fake of the trainer's tests."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.client.listening import listening
from tests.client.stand_in import JUDGED, judge_body, reward_body

PROBE = "probe"
"""The id of the sample by which the trainer asks what the recipe is."""

Result = dict[str, Any]
Rule = Callable[[dict[str, Any]], Result]
"""What comes back for a sample."""


def scored(reward: float, **components: float) -> Result:
    """Make the result of a sample with a reward."""
    return {
        "status": "scored",
        "reward": reward,
        "components": {
            name: {"value": value, "weight": 0.5, "source": "rule"}
            for name, value in (components or {"accuracy_llm": reward}).items()
        },
        "flags": [],
        "error": None,
    }


def unscored(kind: str, *, retryable: bool) -> Result:
    """Make the result of a sample without a reward."""
    error = {"kind": kind, "message": "as it was told", "retryable": retryable}
    return {"status": "unscored", "reward": None, "components": {}, "flags": [], "error": error}


@dataclass
class StandIn:
    """A running stand-in: its address, its scripted replies, and the requests it received.

    `range` is the recipe's, if it tells one. `refusals` are statuses for the next requests. The service reports that it is loading for the first
    `looks_while_loading` health checks.
    """

    url: str
    rule: Rule = field(default=lambda _: scored(1.0))
    health: str = "ready"
    looks_while_loading: int = 0
    range: tuple[float, float] | None = None
    origin: dict[str, str] = field(default_factory=dict)
    refusals: list[int] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)

    @property
    def samples(self) -> list[dict[str, Any]]:
        """Samples it was asked to score, without probes."""
        found = [one for body in self.asked for one in body.get("samples", ())]
        return [one for one in found if one["id"] != PROBE]

    def answer(self, path: str, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Return status and body of a reply."""
        self.asked.append(asked)
        if self.refusals:
            status = self.refusals.pop(0)
            error = {"kind": "told", "message": "as it was told", "retryable": False}
            return status, {"error": error}
        if path == "/judge":
            return 200, judge_body(*(JUDGED | {"id": one.get("id")} for one in asked["items"]))
        rows = [{"id": one.get("id"), **self._result(one)} for one in asked["samples"]]
        body = reward_body(*rows)
        body["provenance"] |= self.origin
        if self.range is not None:
            body["range"] = self.range
        return 200, body

    def _result(self, sample: dict[str, Any]) -> Result:
        return scored(1.0) if sample["id"] == PROBE else self.rule(sample)


@contextmanager
def standing_in() -> Iterator[StandIn]:
    """Listen until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            health = "loading" if service.looks_while_loading > 0 else service.health
            service.looks_while_loading -= 1
            status = 200 if health == "ready" else 503
            self._reply(status, {"status": health, "engines": {}})

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._reply(*service.answer(self.path, asked))

        def _reply(self, status: int, reply: dict[str, Any]) -> None:
            body = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            # A client whose deadline has passed is gone.
            with suppress(ConnectionError):
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with listening(Handler) as url:
        service = StandIn(url)
        yield service
