"""A fake service at the HTTP transport, with scripted verdicts."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx

from medreward_client import AsyncRewardClient
from medreward_eval.grading.grader import GraderIdentity
from medreward_eval.records import Prediction

IDENTITY = GraderIdentity(
    "1.0", {"equivalence": "judge", "report": "judge"}, {"equivalence": "sha256:e", "report": "sha256:r"}, {"equivalence": "rules", "report": None}
)  # fmt: skip

Item = dict[str, Any]
Say = Callable[[Sequence[Item], str], Sequence[Mapping[str, Any]]]
"""Returns the results of a request's items, given its template."""
COUNTS = ("judged", "unjudged", "cache_hits", "coalesced", "judge_calls")
NO_TIME = {"kind": "judge_timeout", "message": "no answer in time", "retryable": True}


def prediction(id_: str, response: str | None = "spleen", **changes: Any) -> Prediction:
    """An open question with its response."""
    known = {"task": "answers", "question": "Which organ?", "reference": "spleen"}
    return Prediction(id_, response=response, **{**known, **changes})


def judged(item: Item, verdict: str | None, **changes: Any) -> dict[str, Any]:
    """One result, of three votes that agree unless told otherwise."""
    vote = {"verdict": verdict, "p_yes": 0.9, "source": "judge", "error": None}
    views = ("as_written", "swapped", "without_question")
    return {
        "id": item.get("id"),
        "status": "judged",
        "verdict": verdict,
        "p_yes": 0.9,
        "score": float(verdict == "YES"),
        "expected": None,
        "votes": [{"view": view, **vote} for view in views],
        "criteria": None,
        "source": "judge",
        "error": None,
        **changes,
    }


def unjudged(item: Item, **error: Any) -> dict[str, Any]:
    """A result without a score."""
    return judged(item, None, status="unjudged", score=None, votes=[], error={**NO_TIME, **error})


def service(say: Say, *, judge: str = "judge") -> httpx.MockTransport:
    """A fake service on the wire, whose judge has a name."""

    def reply(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        template = body["template"]
        provenance = {
            "template": template,
            "fingerprint": f"sha256:{template[0]}",
            "judge": judge,
            "service": "1.0",
            "rules": "rules" if template == "equivalence" and body.get("rules", True) else None,
        }
        told = {
            "results": say(body["items"], template),
            "counts": dict.fromkeys(COUNTS, 0),
            "provenance": provenance,
            "timings_ms": {},
        }
        return httpx.Response(200, json=told)

    return httpx.MockTransport(reply)


def client(transport: httpx.MockTransport, deadline_s: float = 1.0) -> AsyncRewardClient:
    """A client of it."""
    return AsyncRewardClient("http://judge:8080", transport=transport, deadline_s=deadline_s)
