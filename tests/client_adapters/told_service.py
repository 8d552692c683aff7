"""A service on a socket that does what the response says: the only fake of the adapters' tests."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.client.listening import listening
from tests.client.stand_in import reward_body

RIGHT = "<X_RAY><thinking>Basal.</thinking><answer>left lower lobe</answer>"
WRONG = "<X_RAY><thinking>Apical.</thinking><answer>right upper lobe</answer>"
UNJUDGED = "<X_RAY><thinking>Basal.</thinking><answer>the judge times out</answer>"

RANKED = "<X_RAY><thinking>Basal.</thinking><answer>compared with its group</answer>"

REWARDS = {RIGHT: 1.0, WRONG: 0.145, RANKED: 0.5}
SOURCES = {"accuracy_llm": "judge", "accuracy_embed": "embedder"}


@dataclass
class ToldService:
    """The URL of the service, and the bodies and headers of its requests, in order."""

    url: str
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    origin: dict[str, str] = field(default_factory=dict)
    """What differs in the provenance."""
    range: tuple[float, float] | None = None
    """The range that the replies tell, if any."""

    @property
    def samples(self) -> list[dict[str, Any]]:
        """The samples of all requests."""
        return [sample for body in self.bodies for sample in body["samples"]]


@contextmanager
def told_service() -> Iterator[ToldService]:
    """Listen until the block ends.

    RIGHT and WRONG are scored, RANKED if it declares its group's size, and UNJUDGED has no reward. A sample without a modality, given or
    in its reference's tag, has no such component.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            asked = json.loads(self.rfile.read(length))
            service.bodies.append(asked)
            service.headers.append(dict(self.headers))
            reply = reward_body(*map(_result, asked["samples"]))
            reply["provenance"] |= service.origin
            if service.range is not None:
                reply["range"] = service.range
            body = json.dumps(reply).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with listening(Handler) as url:
        service = ToldService(url)
        yield service


def _result(sample: dict[str, Any]) -> dict[str, Any]:
    is_right = float(sample["response"] == RIGHT)
    values = {"accuracy_llm": is_right, "accuracy_embed": is_right, "format": 1.0}
    if sample.get("modality") or str(sample["reference"]).startswith("<"):
        values["modality"] = 1.0
    error = None
    if sample["response"] == UNJUDGED:
        del values["accuracy_llm"]
        error = {"kind": "judge_timeout", "message": "no answer in time", "retryable": False}
    if sample["response"] == RANKED and "group_size" not in sample:
        told = "group: not declared; the signal group_rank compares a group"
        error = {"kind": "group_not_whole", "message": told, "retryable": False}
    return {
        "id": sample.get("id"),
        "status": "unscored" if error else "scored",
        "reward": None if error else REWARDS[sample["response"]],
        "components": {
            name: {"value": value, "weight": 0.25, "source": SOURCES.get(name, "rule")}
            for name, value in values.items()
        },
        "flags": [],
        "error": error,
    }
