"""A scripted service in place of the client's transport, the only fake of its tests."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import httpx

from medreward_client import AsyncRewardClient, Criterion, Item, RewardClient, Sample
from medreward_client.pauses import Pauses

URL = "http://rewards:8080"
PAUSES = Pauses(first_s=0.001, longest_s=0.01)
"""So short that no test sleeps; that the client's own are longer is shown in test_retries.py."""
PATIENT_TEXT = "Mrs Roe, mass in the left lower lobe"
SAMPLE = Sample(PATIENT_TEXT, "left lower lobe", id="p17-r3")
ITEM = Item(PATIENT_TEXT, "left lower lobe", id="q1", criteria=[Criterion("names the side", 2.0)])

Handler = Callable[[httpx.Request], httpx.Response]
Question = Callable[[Any], Any]
"""A call on either client, such as `lambda client: client.health()`."""

PROBLEM = {"kind": "judge_timeout", "message": "no answer in time", "retryable": True}
SCORED = {
    "id": "p17-r3",
    "status": "scored",
    "reward": 1.0,
    "components": {
        "accuracy_llm": {"value": 1.0, "weight": 0.5175, "p_yes": 0.998, "source": "judge"},
        "accuracy_embed": {"value": 1.0, "weight": 0.3375, "cosine": 0.97, "source": "embedder"},
        "format": {"value": 1.0, "weight": 0.1, "source": "rule"},
    },
    "flags": ["two_answers"],
    "error": None,
}
UNSCORED = SCORED | {"status": "unscored", "reward": None, "error": PROBLEM}
VOTE = {
    "view": "as_written",
    "verdict": "YES",
    "p_yes": 0.98,
    "source": "judge",
    "error": None,
}
JUDGED = {
    "id": "q1",
    "status": "judged",
    "verdict": "YES",
    "p_yes": 0.98,
    "score": 1,
    "expected": None,
    "votes": [VOTE],
    "criteria": [
        {"text": "names the side", "points": 2, "verdict": "NO", "p_yes": 0.1, "source": "cache"}
    ],
    "source": "judge",
    "error": None,
}
UNJUDGED = JUDGED | {
    "status": "unjudged",
    "verdict": None,
    "score": None,
    "votes": [VOTE | {"verdict": None, "p_yes": None, "source": None, "error": PROBLEM}],
    "error": PROBLEM,
}
READINESS = {
    "status": "loading",
    "engines": {"judge": {"ready": False, "model": "Qwen3-4B", "message": "loading weights"}},
}
_WORK = {"cache_hits": 1, "coalesced": 0, "judge_calls": 1}
_ORIGIN = {"fingerprint": "sha256:1f", "judge": "Qwen3-4B", "embedder": "MedEmbed", "service": "1"}
_TIMINGS = {"queue": 3.1, "cache": 0.8, "judge": 41.0, "embed": 12.2, "total": 58.9}


def reward_body(*results: Mapping[str, object]) -> dict[str, Any]:
    """Write the body of a reply of /reward."""
    return {
        "results": list(results),
        "counts": {"scored": 1, "unscored": 1} | _WORK,
        "provenance": {"recipe": "medix-r1"} | _ORIGIN,
        "timings_ms": _TIMINGS,
    }


def judge_body(*results: Mapping[str, object]) -> dict[str, Any]:
    """Write the body of a reply of /judge."""
    return {
        "results": list(results),
        "counts": {"judged": 1, "unjudged": 1} | _WORK,
        "provenance": {"template": "equivalence"} | _ORIGIN,
        "timings_ms": _TIMINGS,
    }


def replying(body: object, *, status: int = 200) -> Handler:
    """Reply to everything with *body*, which is JSON unless it is bytes."""
    form: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"json": body}
    return lambda _: httpx.Response(status, **form)


def failing(error: type[httpx.RequestError]) -> Handler:
    """Fail as the network does, with the whole request in the library's error."""

    def fail(request: httpx.Request) -> httpx.Response:
        raise error("it failed", request=request)

    return fail


class Ask(Protocol):
    """Put a question to a service through one of the two clients."""

    def __call__(self, handler: Handler, question: Question, **options: Any) -> Awaitable[Any]:
        """Return the client's answer."""
        ...


async def ask_blocking(handler: Handler, question: Question, **options: Any) -> Any:
    """Ask through RewardClient."""
    with RewardClient(**_settings(handler, options)) as client:
        return question(client)


async def ask_async(handler: Handler, question: Question, **options: Any) -> Any:
    """Ask through AsyncRewardClient."""
    async with AsyncRewardClient(**_settings(handler, options)) as client:
        return await question(client)


def _settings(handler: Handler, options: dict[str, Any]) -> dict[str, Any]:
    transport = httpx.MockTransport(handler)
    return {"base_url": URL, "transport": transport, "deadline_s": 0.1, "pauses": PAUSES} | options
