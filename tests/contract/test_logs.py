"""What is logged: one JSON object a line, one line a request, and nothing that a sample says."""

import asyncio
import gc
import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Self

import httpx
import pytest
import structlog
from dirty_equals import IsFloat, IsPartialDict, IsStr

from medreward.engines.embedder import Embedder
from medreward.engines.embedders.hashed import HashedEmbedder
from medreward.engines.judge import Judge
from medreward.engines.judges.scripted import ScriptedJudge
from medreward.engines.templates import Template
from medreward.telemetry import logs
from tests.conftest import Serve
from tests.support.engines import TroubledEmbedder, TroubledJudge
from tests.support.logs import logging_restored

Line = dict[str, Any]
Read = Callable[[], list[Line]]
Configure = Callable[..., Read]

MARK = "xq7Zmark"
"""In everything that a caller says; in no log line, in no case."""
KEY = f"sk-{MARK}-key"


def marked(what: str) -> str:
    """A text that would be known again anywhere."""
    return f"{MARK} {what} {MARK}"


SAMPLE: dict[str, Any] = {
    "id": f"{MARK}-id",
    "group": f"{MARK}-group",
    "question": marked("question"),
    "response": f"<X_RAY><thinking>{marked('thoughts')}</thinking><answer>{marked('A')}</answer>",
    "reference": [marked("reference"), marked("other reference")],
    "modality": "X_RAY",
    "extra": {MARK: marked("extra")},
}
ITEM: dict[str, Any] = {
    "id": f"{MARK}-id",
    "question": marked("question"),
    "answer": marked("answer"),
    "reference": marked("reference"),
    "criteria": [{"text": marked("criterion"), "points": 1}],
}
REWARD = {"samples": [SAMPLE, {**SAMPLE, "response": ""}], "run": {"id": f"{MARK}-run"}}
JUDGE = {"items": [ITEM], "votes": 3}


@pytest.fixture
def configure(capsys: pytest.CaptureFixture[str]) -> Iterator[Configure]:
    """Configure logging as the command does, and read what came; put everything back afterwards."""

    def configure(level: str, style: Literal["json", "console"] = "json") -> Read:
        logs.configure(level, style)
        return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    with logging_restored():
        yield configure


# Engines that quote what they were asked.


async def quoting(asked: Sequence[Any]) -> Sequence[Any]:
    """Fail with an error that quotes what was asked."""
    raise ValueError(f"cannot answer {asked}")


async def echoing(asked: Sequence[Any]) -> Sequence[Any]:
    """Answer with the text that was asked about."""
    return [getattr(question, "answer", question) for question in asked]


QuotingJudge, EchoingJudge = partial(TroubledJudge, quoting), partial(TroubledJudge, echoing)
QuotingEmbedder = partial(TroubledEmbedder, quoting)
EchoingEmbedder = partial(TroubledEmbedder, echoing)


class ExplosiveJudge(ScriptedJudge):
    """Breaks the route once it is loaded."""

    is_loaded = False

    def can_answer(self, template: Template) -> bool:
        """Fail like a bug of our own."""
        if self.is_loaded:
            raise ValueError(f"cannot answer {marked('answer')}")
        self.is_loaded = True
        return super().can_answer(template)


# Requests, each with its end.


@dataclass(frozen=True)
class Call:
    """One request, and how it should end."""

    status: int
    method: str = "POST"
    path: str = "/reward"
    route: str = "/reward"
    body: Any = field(default_factory=lambda: REWARD)
    headers: dict[str, str] = field(default_factory=dict)
    judge: Callable[[], Judge] = ScriptedJudge
    embedder: Callable[[], Embedder] = HashedEmbedder
    settings: dict[str, Any] = field(default_factory=dict)

    async def make(self, client: httpx.AsyncClient) -> httpx.Response:
        """Send it."""
        content = self.body if isinstance(self.body, bytes) else json.dumps(self.body)
        headers = {"Authorization": f"Bearer {KEY}", **self.headers}
        response = await client.request(self.method, self.path, content=content, headers=headers)
        assert response.status_code == self.status
        return response

    @classmethod
    def compat(cls, status: int, route: str, key: str = "", **more: Any) -> Self:
        """A request to a trainer's route, with a key at the end of the path or without."""
        body = more.pop("body", BODIES[route])
        return cls(status, path=f"{route}{key}", route=route, body=body, **more)

    @classmethod
    def judging(cls, status: int, template: str, **more: Any) -> Self:
        """A request to /judge."""
        body = {**JUDGE, "template": template, "votes": 3 if template == "equivalence" else 1}
        return cls(status, path="/judge", route="/judge", body=body, **more)


OPENRLHF, SLIME = "/compat/openrlhf", "/compat/slime"
KEYED = {"api_keys": KEY}
BODIES: dict[str, Any] = {
    OPENRLHF: {
        "query": [marked("prompt") + marked("query")],
        "prompts": [marked("prompt")],
        "labels": [marked("label")],
    },
    SLIME: {
        "prompt": marked("prompt"),
        "response": marked("response"),
        "label": {"reference": marked("label"), "question": marked("question")},
    },
    "/verify": {
        "responses_create_params": {"input": marked("prompt")},
        "response": {"output": [{"content": marked("response")}]},
        "reference": marked("reference"),
        "uuid": marked("row"),
    },
}
"""What trainers send."""

CALLS = {
    "scored": Call(200),
    "scored, guarded by a key": Call(200, settings=KEYED),
    "judged": Call.judging(200, "equivalence"),
    "graded": Call.judging(200, "report"),
    "by criteria": Call.judging(200, "rubric"),
    "too long": Call(200, settings={"max_text_bytes": 8}),
    "past its deadline": Call(200, body={**REWARD, "deadline_ms": 1}),
    "a judge that fails": Call(200, judge=QuotingJudge),
    "a judge of nonsense": Call(200, judge=EchoingJudge),
    "an embedder that fails": Call(200, embedder=QuotingEmbedder),
    "an embedder of nonsense": Call(200, embedder=EchoingEmbedder),
    "a bug": Call(500, judge=ExplosiveJudge),
    "not JSON": Call(400, body=f'{{"samples": "{MARK}'.encode()),
    "not UTF-8": Call(400, body=f'{{"samples": "{MARK}\xff"}}'.encode("latin-1")),
    "a field of another name": Call(422, body={"samples": [{**SAMPLE, MARK: marked("field")}]}),
    "an unknown modality": Call(422, body={"samples": [{**SAMPLE, "modality": MARK}]}),
    "an unknown recipe": Call(422, body={**REWARD, "recipe": MARK}),
    "no recipe of that name": Call(
        404, method="GET", path=f"/recipes/{MARK}?{MARK}", route="/recipes/{name}"
    ),
    "no such path": Call(404, path=f"/{MARK}/{MARK}?key={KEY}", route="unmatched"),
    "another method": Call(405, method="DELETE", path=f"/reward?{MARK}"),
    "a wrong key": Call(401, settings={"api_keys": "another"}),
    "too large": Call(413, body={**REWARD, "pad": MARK * 1000}, settings={"max_body_bytes": 1024}),
    "for OpenRLHF, the key in the path": Call.compat(200, OPENRLHF, f"/{KEY}", settings=KEYED),
    "for OpenRLHF, a wrong key": Call.compat(401, OPENRLHF, f"/{KEY}/{MARK}", settings=KEYED),
    "for OpenRLHF, a prompt that is none": Call.compat(
        422, OPENRLHF, f"/{KEY}", body=BODIES[OPENRLHF] | {"prompts": [marked("else")]}
    ),
    "for slime, the key in the path": Call.compat(200, SLIME, f"/{KEY}?key={MARK}", settings=KEYED),
    "for slime, a judge of nonsense": Call.compat(
        422, SLIME, f"/{KEY}?run={MARK}", judge=EchoingJudge
    ),
    "for NeMo Gym, a judge that fails": Call.compat(200, "/verify", judge=QuotingJudge),
    "an odd request id": Call(200, headers={"X-Request-ID": f"{MARK} of a patient"}),
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", CALLS)
async def test_a_request_is_one_line_and_says_nothing_of_its_samples(
    configure: Configure, serve: Serve, name: str
) -> None:
    """However it ends: its id, route, status and duration; no text, no name, no key."""
    call = CALLS[name]
    # Other levels leave out lines, and add none.
    read = configure("debug")

    async with serve(judge=call.judge(), embedder=call.embedder(), **call.settings) as client:
        response = await call.make(client)

    lines = read()
    assert [line for line in lines if line["event"] == "request"] == [
        IsPartialDict(
            request_id=response.headers["X-Request-ID"],
            route=call.route,
            method=call.method,
            status=call.status,
            duration_ms=IsFloat(ge=0),
            level="info",
            timestamp=IsStr(regex=r"\d{4}-\d\d-\d\dT[\d:.]+Z"),
        )
    ]
    assert MARK.lower() not in json.dumps(lines).lower()


@pytest.mark.anyio
async def test_a_bug_is_logged_by_its_type_and_place(configure: Configure, serve: Serve) -> None:
    """Enough to find it, with the id that the caller was given; not its message."""
    read = configure("info")

    async with serve(judge=ExplosiveJudge()) as client:
        response = await CALLS["a bug"].make(client)

    (line,) = [line for line in read() if line["event"] == "bug"]
    assert line == IsPartialDict(
        level="error",
        error="ValueError",
        where=IsStr(regex=r".*can_answer:\d+"),
        request_id=response.headers["X-Request-ID"],
    )


@pytest.mark.anyio
async def test_at_the_level_of_warnings_an_engine_that_raises_is_logged_and_no_request(
    configure: Configure, serve: Serve
) -> None:
    """The level is the operator's, who learns which engine, and the type of what it raised."""
    read = configure("warning")

    async with serve(judge=QuotingJudge(), embedder=QuotingEmbedder()) as client:
        await CALLS["scored"].make(client)

    lines = read()
    assert {line["event"] for line in lines} == {"engine_raised"}
    assert {(line["engine"], line["error"]) for line in lines} == {
        *(("judge", "ValueError"), ("embedder", "ValueError"))
    }


@pytest.mark.anyio
@pytest.mark.parametrize(("level", "count"), [("info", 0), ("debug", 3)])
async def test_probes_are_logged_only_for_debugging(
    configure: Configure, serve: Serve, level: str, count: int
) -> None:
    """They come every few seconds, and say nothing while all is well."""
    read = configure(level)

    async with serve() as client:
        for path in ("/livez", "/readyz", "/metrics"):
            await Call(200, method="GET", path=path, route=path).make(client)

    assert len([line for line in read() if line["event"] == "request"]) == count


# What the libraries log.


def _raise_with_data() -> None:
    patient = marked("a local variable")
    raise ValueError(f"cannot read {patient}")


# A logger of structlog that has been used keeps its configuration, so each call gets a new one.
LOGGED: list[Callable[[str], None]] = [
    logging.getLogger("some.library").exception,
    lambda event: structlog.get_logger("medreward.x").error(event, exc_info=sys.exception()),
    lambda event: structlog.get_logger("medreward.x").exception(event),
]


def _fail(logged: Callable[[str], None]) -> None:
    try:
        _raise_with_data()
    except ValueError:
        logged("it failed")


@pytest.mark.parametrize("logged", LOGGED)
def test_an_exception_is_logged_without_its_message(
    configure: Configure, logged: Callable[[str], None]
) -> None:
    """Whoever logs it: its type and place are told, for a message may quote what could not be read."""
    read = configure("debug")

    _fail(logged)

    (line,) = read()
    assert line == IsPartialDict(
        event="it failed",
        level="error",
        error="ValueError",
        where=IsStr(regex=r"_raise_with_data:\d+"),
    )
    assert MARK not in json.dumps(line)


def test_a_forgotten_task_is_logged_without_what_it_raised(configure: Configure) -> None:
    """Below its first line, asyncio writes the exception also into its message."""
    read = configure("info")

    async def fail() -> None:
        _raise_with_data()

    async def forget() -> None:
        await asyncio.wait([asyncio.create_task(fail())])
        gc.collect()

    asyncio.run(forget())

    (line,) = read()
    assert line == IsPartialDict(
        event="Task exception was never retrieved", logger="asyncio", error="ValueError"
    )
    assert MARK not in json.dumps(line)


def test_a_librarys_line_is_one_line(configure: Configure) -> None:
    """Also with its arguments, line breaks and letters beyond ASCII."""
    read = configure("info")

    logging.getLogger("some.library").warning("%s files\nin %s \u2028", 3, "Füße")

    assert read() == [
        IsPartialDict(
            event="3 files\nin Füße \u2028", level="warning", logger="some.library", timestamp=IsStr
        )
    ]


def test_a_warning_is_a_line_too(configure: Configure) -> None:
    """What a library says through Python's warnings would else break up the JSON."""
    read = configure("info")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logs.configure("info", "json")
        warnings.warn("an argument is deprecated", DeprecationWarning, stacklevel=1)

    (line,) = read()
    assert line == IsPartialDict(level="warning", logger="py.warnings")
    assert "an argument is deprecated" in line["event"]


@pytest.mark.parametrize("name", logs.CHATTY)
def test_chatty_libraries_are_heard_only_when_something_is_wrong(
    configure: Configure, name: str
) -> None:
    """And then in our form, not in their own: a line for each file would bury the rest."""
    logging.getLogger(name).addHandler(logging.StreamHandler())
    logging.getLogger(name).propagate = False
    read = configure("debug")

    logging.getLogger(name).info("GET /v1?key=%s", KEY)
    logging.getLogger(name).warning("something is wrong")

    assert [line["event"] for line in read()] == ["something is wrong"]


def test_text_for_people_keeps_the_same_silence(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    """No message, no local variables in a traceback, and no colours in a file."""
    configure("info", "console")

    _fail(LOGGED[-1])

    told = capsys.readouterr().err
    assert "it failed" in told
    assert "error=ValueError" in told
    assert MARK not in told
    assert "\x1b" not in told
