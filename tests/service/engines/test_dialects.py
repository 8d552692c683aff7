"""The ways to ask a judge's server: found out at the start, and of one mind."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from itertools import groupby
from typing import Any

import httpx
import pytest
from dirty_equals import IsApprox
from pydantic import ValidationError

from medreward.engines.judge import Inquiry, Judgement, View, is_sound
from medreward.engines.judges.openai import OpenAiJudge
from medreward.engines.remote.rate_limits import RateLimits
from medreward.engines.templates import load_templates
from medreward.errors import BackendDown, EngineError, Problem, ProblemKind, SetupError
from medreward.settings import Settings
from tests.service.engines.judge_servers import (
    MODEL,
    SERVES,
    SHORT_PAUSES,
    FakeServer,
    Hosts,
    Model,
)
from tests.support.problems import judgement, problem
from tests.support.wait import until

pytestmark = pytest.mark.anyio

TEMPLATES = load_templates()
MATCH, EQUIVALENCE, REPORT = (TEMPLATES[name] for name in ("match", "equivalence", "report"))
INQUIRIES = [
    *(Inquiry(MATCH, f"answer {n}", f"reference {n % 3}") for n in range(20)),
    *(Inquiry(EQUIVALENCE, f"answer {n}", "ref", f"question {n % 2}") for n in range(20)),
    *(Inquiry(EQUIVALENCE, f"answer {n}", "ref", "q", view=View.SWAPPED) for n in range(5)),
    *(Inquiry(EQUIVALENCE, f"antwort {n}", "ref", view=View.WITHOUT_QUESTION) for n in range(5)),
]


def judge_of(hosts: Hosts, **options: Any) -> aclosing[OpenAiJudge]:
    """A judge of all servers of a network, not yet started."""
    urls = [f"http://{host}/v1" for host in hosts.servers]
    options = {"model": MODEL, "pauses": SHORT_PAUSES, "transport": hosts, **options}
    return aclosing(OpenAiJudge(*urls, **options))


@asynccontextmanager
async def started(*servers: FakeServer, **options: Any) -> AsyncIterator[OpenAiJudge]:
    """A judge that has found out about its servers."""
    hosts = Hosts(**{f"judge{n}": server for n, server in enumerate(servers)})
    async with judge_of(hosts, **options) as judge:
        await judge.start()
        yield judge


def shares(answers: Sequence[Judgement | Problem]) -> list[float]:
    """What each judgement gives to YES."""
    return [answer.p_yes for answer in answers if isinstance(answer, Judgement)]


TOKENS = ["tokenize", "detokenize", "tokenize"]


@pytest.mark.parametrize(
    ("kind", "way", "identity", "templated", "judgements"),
    [
        ("vllm", "completions", "completions:", [*TOKENS, "apply-template", *TOKENS], 2),
        ("old vllm", "completions", ":top", [*TOKENS, "apply-template", *TOKENS], 3),
        ("sglang", "chat", "chat+opening", ["tokenize"], 5),
        ("llamacpp", "completions", ":top", ["tokenize"], 2),
        ("openai", "chat", ":chat", ["tokenize"], 5),
        ("litellm", "chat", "choice:response_format", ["tokenize"], 7),
    ],
)
async def test_the_cheapest_way_that_a_server_knows_is_taken(
    kind: str, way: str, identity: str, templated: list[str], judgements: int
) -> None:
    """With nothing set; few requests find it, since a hosted server is paid for each."""
    server = FakeServer(kind)
    async with started(server) as judge:
        paths = server.paths()
        answers = await judge.decide(INQUIRIES)

    last = "v1/chat/completions" if way == "chat" else "v1/completions"
    assert [path for path, _ in groupby(paths)] == ["v1/models", "apply-template", *templated, last]
    assert paths.count(last) == judgements
    assert judge.way == way
    assert identity in judge.identity
    why_not = {"completions": "tokenize is answered by 404"} if way == "chat" else {}
    assert judge.why_not_cheaper == why_not, "as `medreward check` shows it"
    assert len(shares(answers)) == len(INQUIRIES)
    assert {share > 0.5 for share in shares(answers)} == {True, False}


@pytest.mark.parametrize("kind", ["vllm", "old vllm", "llamacpp", "sglang"])
async def test_all_ways_agree(kind: str) -> None:
    """The same model gives the same verdicts and, to 1e-4, the same probabilities by every way."""
    model = Model(spread=True)
    async with started(FakeServer("vllm", model), way="completions") as judge:
        expected = shares(await judge.decide(INQUIRIES))
    for way in ("completions", "chat") if kind != "sglang" else ("chat",):
        async with started(FakeServer(kind, model), way=way) as judge:
            found = shares(await judge.decide(INQUIRIES))

        assert found == [IsApprox(share, delta=1e-4) for share in expected]


@pytest.mark.parametrize(
    ("kind", "refuses", "identity", "sent"),
    [
        ("openai", lambda body: body["top_logprobs"] > 5, "chat+top5", {"top_logprobs": 5}),
        ("sglang", lambda body: "continue_final_message" in body, ":chat", {"top_logprobs": 20}),
        ("litellm", lambda body: "max_tokens" in body, "choice", {"max_completion_tokens": 16}),
    ],
)
async def test_a_chat_request_leaves_out_what_a_server_refuses(
    kind: str, refuses: Callable[[Any], bool], identity: str, sent: dict[str, Any]
) -> None:
    """Twenty logarithms where they can be had, the beginning of a turn where it is understood."""
    server = FakeServer(kind)
    server.refuses = refuses

    async with started(server) as judge:
        server.asked.clear()
        answers = await judge.decide(INQUIRIES[:3])

    assert identity in judge.identity
    assert len(shares(answers)) == 3
    assert all(body.items() >= sent.items() for _, body in server.asked)


@pytest.mark.parametrize(
    ("kind", "structure"),
    [
        ("vllm", "structured_outputs"),
        ("sglang", "regex"),
        ("llamacpp", "grammar"),
        ("openai", "response_format"),
    ],
)
async def test_without_probabilities_a_reply_is_held_to_the_labels(
    kind: str, structure: str
) -> None:
    """Each kind of server is told so in its own words; the verdict is sure, and has no coverage."""
    server = FakeServer(kind)
    server.has_probabilities = False

    async with started(server, way="chat") as judge:
        server.asked.clear()
        answers = await judge.decide(INQUIRIES[:5])

    assert all(structure in body for _, body in server.asked)
    assert set(shares(answers)) <= {0.0, 1.0}
    assert {a.coverage for a in answers if isinstance(a, Judgement)} == {None}


@pytest.mark.parametrize("said", ["YES and NO", None, '{"verdict": "MAYBE"}', "[" * 100_000])
async def test_a_held_reply_that_is_no_label_is_no_verdict(said: object) -> None:
    """A server may take a structure and not keep it."""
    server = FakeServer("litellm")

    async with started(server) as judge:
        server.says = {"choices": [{"message": {"content": said}}]}
        (answer,) = await judge.decide(INQUIRIES[:1])
        choice = {"message": {"content": "NO"}, "finish_reason": "content_filter"}
        server.says = {"choices": [choice]}
        (filtered,) = await judge.decide(INQUIRIES[:1])

    problem(answer, ProblemKind.JUDGE_UNPARSEABLE)
    problem(filtered, ProblemKind.JUDGE_REFUSED)


async def test_many_inquiries_are_few_requests() -> None:
    """One request for each template in a batch, whatever the number of inquiries."""
    server = FakeServer("vllm")

    async with started(server) as judge:
        server.asked.clear()
        await judge.decide(INQUIRIES)

    sent = [body for path, body in server.asked if path == "v1/completions"]
    assert len(sent) == len(server.asked) == 2
    assert sum(len(body["prompt"]) for body in sent) == len(INQUIRIES)


async def test_a_batch_is_no_more_than_may_go_at_once() -> None:
    """Where tokens are limited, a request is not larger than a burst of them."""
    limits = RateLimits(requests_per_minute=None, tokens_per_minute=6_000_000)

    async with started(FakeServer("vllm"), limits=limits) as judge:
        assert judge.capacity.tokens == 1_000_000


async def test_a_grade_is_asked_for_beside_verdicts() -> None:
    """One batch may hold several templates; the tokens of each label are those of its template."""
    async with started(FakeServer("vllm")) as judge:
        grade, verdict = await judge.decide([Inquiry(REPORT, "report", "ref"), INQUIRIES[0]])

    assert judgement(grade).likeliest == "4"
    assert judgement(grade).coverage == IsApprox(0.9)
    assert judgement(verdict).coverage == IsApprox(0.97)


class Stumbling(FakeServer):
    """Falls over one prompt, whatever stands beside it."""

    def completions(self, body: Any) -> object:
        """A 500 for the whole list."""
        if any("poison" in prompt for prompt in body["prompt"]):
            return {"error": {"message": "not JSON compliant: nan", "code": 500}}
        return super().completions(body)


@pytest.mark.parametrize(
    ("server", "answer", "kind"),
    [
        (FakeServer("old vllm", window=600), "word " * 800, ProblemKind.TOO_LONG),
        (Stumbling("old vllm"), "poison", ProblemKind.JUDGE_UNREACHABLE),
    ],
    ids=["refused", "stumbled over"],
)
async def test_one_bad_prompt_in_a_list_costs_its_neighbours_nothing(
    server: FakeServer, answer: str, kind: ProblemKind
) -> None:
    """A list that fails is sent again in halves, until the prompt that is too much is alone."""
    inquiries = [*INQUIRIES[:9], Inquiry(MATCH, answer, "ref"), *INQUIRIES[9:20]]

    async with started(server) as judge:
        answers = list(await judge.decide(inquiries))

    problem(answers.pop(9), kind)
    del inquiries[9]
    assert all(is_sound(judgement(a), i) for a, i in zip(answers, inquiries, strict=True))


def numbered(*numbers: object) -> list[Any]:
    """Choices with these numbers, the first for NO, all others for YES."""
    tops = [{"NO": -0.01}] + [{"YES": -0.01}] * (len(numbers) - 1)
    return [
        {"index": n, "logprobs": {"top_logprobs": [top]}}
        for n, top in zip(numbers, tops, strict=True)
    ]


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param({"choices": numbered(0)}, id="one too few"),
        pytest.param({"choices": numbered(0, 0)}, id="one twice"),
        pytest.param({"choices": [*numbered(0), None]}, id="one of nothing"),
        pytest.param([{"error": "full"}, {"choices": numbered(0, 0)}], id="one reply of two"),
    ],
)
async def test_choices_that_may_belong_to_other_prompts_are_no_verdicts(reply: Any) -> None:
    """Nobody can tell whose they are, so none is used, and none is asked for twice."""
    server = FakeServer("llamacpp")

    async with started(server) as judge:
        server.says = reply
        server.asked.clear()
        answers = await judge.decide(INQUIRIES[:2])

    assert {a.kind for a in answers if isinstance(a, Problem)} == {ProblemKind.JUDGE_UNPARSEABLE}
    assert len(answers) == 2
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param({"choices": numbered(1, 0)}, id="last first"),
        pytest.param([{"choices": [one]} for one in numbered(1, 0)], id="replies last first"),
    ],
)
async def test_choices_go_to_their_prompts_by_number(reply: Any) -> None:
    """In whatever order they come."""
    server = FakeServer("llamacpp")

    async with started(server) as judge:
        server.says = reply
        answers = await judge.decide(INQUIRIES[:2])

    assert shares(answers) == [1.0, 0.0]


def test_a_way_that_no_longer_exists_is_refused_by_the_names_of_the_others() -> None:
    """A setting from before must not become a silent default."""
    with pytest.raises(ValidationError, match="'auto', 'completions' or 'chat'"):
        Settings.model_validate({"judge_way": "scoring"})


@pytest.mark.parametrize(
    "reply",
    [
        *([], "YES", None, {"data": "toy"}, {"data": [None, 7, {}]}, {"tokens": ["a"]}),
        {"tokens": [1, 2], "prompt": "left lower lobe?"},
        {"choices": [{"message": {"content": ["YES"]}, "index": "0"}]},
    ],
)
async def test_a_server_that_answers_nonsense_at_the_start_is_refused(reply: Any) -> None:
    """Whatever it says, the judge does not start, and the reason is one of ours."""
    server = FakeServer("vllm")
    server.says = reply

    with pytest.raises((SetupError, EngineError)):
        async with started(server):
            pass


@pytest.mark.parametrize("status", [401, 404, 500, 503])
async def test_a_server_that_cannot_chat_yet_is_waited_for(status: int) -> None:
    """Every such server can: the same judge tells what it answers, and starts when it is up."""
    server = FakeServer("openai")
    server.fails_with = status
    async with judge_of(Hosts(judge=server)) as judge:
        with pytest.raises(BackendDown, match=str(status)):
            await judge.start()
        server.fails_with = None
        await judge.start()
        assert judge.way == "chat"


class Gateway(Hosts):
    """Something before a server, which answers in its place if it has an answer for the path."""

    def __init__(self, server: FakeServer, answer: Callable[[str], httpx.Response | None]) -> None:
        super().__init__(judge=server)
        self.answer = answer

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer, or pass the request on."""
        return self.answer(request.url.path) or await super().handle_async_request(request)


@pytest.mark.parametrize(
    "page",
    [
        httpx.Response(200, html="<html>back soon</html>"),
        httpx.Response(200, json={"error": {"code": 503, "message": "back soon"}}),
    ],
)
async def test_maintenance_at_the_start_is_waited_for(page: httpx.Response) -> None:
    """A page, or an error in a 200, is no reason to choose another way or to give up."""
    gateway = Gateway(FakeServer("openai"), lambda _path: page)
    async with judge_of(gateway) as judge:
        with pytest.raises(BackendDown, match=r"200|503"):
            await judge.start()
        gateway.answer = lambda _path: None
        await judge.start()
        assert judge.way == "chat"


async def test_an_error_in_a_200_at_a_route_of_few_servers_is_no_outage() -> None:
    """Some servers answer so at each route that they do not have."""
    unknown = httpx.Response(200, json={"error": "Unexpected endpoint. Returning 200 anyway"})
    known = ("models", "chat/completions")
    gateway = Gateway(FakeServer("openai"), lambda path: None if path.endswith(known) else unknown)
    async with judge_of(gateway) as judge:
        await judge.start()
        assert judge.way == "chat"


class Sure(Model):
    """Answers each probe with the verdict that any good judge gives, as surely as it is."""

    def __init__(self, no: float) -> None:
        super().__init__()
        self._no = no

    def next(self, ids: Sequence[int]) -> dict[str, float]:
        """Nearly always YES."""
        return {" YES": 1.0 - self._no, " NO": self._no}


@pytest.mark.parametrize(("one", "other", "is_same"), [(2e-3, 3e-3, True), (2e-3, 1e-4, False)])
async def test_sure_judges_are_told_apart_by_how_sure_they_are(
    one: float, other: float, is_same: bool
) -> None:
    """Half precision moves odds a little; another model, that agrees on easy probes, by far more."""
    servers = [FakeServer("old vllm", Sure(no)) for no in (one, other)]
    try:
        async with started(*servers):
            assert is_same
    except SetupError:
        assert not is_same


class Evasive(FakeServer):
    """Says a label only where it is held to one."""

    def chat(self, body: Any) -> object:
        """No probabilities, and no label unasked."""
        said = '{"verdict": "NO"}' if "response_format" in body else "Not enough is known."
        return {"choices": [{"message": {"content": said}}]}


NO_LABELS = "does not answer in labels"


@pytest.mark.parametrize(
    ("servers", "options", "told"),
    [
        # A probe looks at what the model says unasked, which later replies may hide.
        *(([FakeServer(kind, Model(mute=True))], {}, NO_LABELS) for kind in SERVES),
        # "Not enough is known" begins like a label, and is none.
        ([Evasive("litellm")], {}, NO_LABELS),
        # Nobody who asks for one way gets another.
        ([FakeServer("openai")], {"way": "completions"}, "no way to ask.*completions"),
        ([FakeServer("vllm")], {"model": "qwen"}, f"serves {MODEL}, not qwen"),
        # Several servers have to be the same judge, or a reward would depend on which one is asked.
        ([FakeServer("vllm"), FakeServer("llamacpp")], {}, "same model"),
        # The probes find another revision under the same name.
        ([FakeServer("old vllm"), FakeServer("old vllm", Model(seed="b"))], {}, "same probe"),
    ],
)
async def test_what_waiting_does_not_mend_is_refused_at_the_start(
    servers: list[FakeServer], options: dict[str, str], told: str
) -> None:
    """The message tells what is wrong with the model, the way or the servers."""
    with pytest.raises(SetupError, match=told):
        async with started(*servers, **options):
            pass


class Shuffling(FakeServer):
    """A hosted server that lists other models, in no order, and the one that is asked not at all."""

    def models(self, _body: object) -> object:
        """Now this one first, now that."""
        rows = [{"id": owner, "owned_by": owner} for owner in ("system", "openai")]
        return {"data": rows if len(self.asked) % 2 else rows[::-1]}


async def test_a_hosted_server_comes_back_though_it_lists_its_models_in_any_order() -> None:
    """Only what is said of the model that is asked tells of another one; the identity stays."""
    async with started(Shuffling("openai")) as judge:
        before = judge.identity
        for _ in range(3):
            await judge.start()
        assert judge.identity == before


@pytest.mark.parametrize("status", [500, 503])
async def test_a_server_that_is_down_at_the_start_does_not_hold_up_the_others(status: int) -> None:
    """The judge starts with those that answer, and asks these."""
    up, down = FakeServer("vllm"), FakeServer("vllm")
    down.fails_with = status

    async with started(up, down) as judge:
        down.asked.clear()
        answers = await judge.decide(INQUIRIES)

    assert len(shares(answers)) == len(INQUIRIES)
    assert "v1/completions" not in down.paths()


class Shaky(FakeServer):
    """Fails once, in the middle of a start."""

    def completions(self, body: Any) -> object:
        """The second request is lost."""
        if self.paths().count("v1/completions") == 2:
            return {"error": {"message": "worker died", "code": 500}}
        return super().completions(body)


async def test_a_server_that_fails_in_the_middle_of_a_start_is_asked_again() -> None:
    """What it could do a moment ago is no fault of the settings."""
    async with judge_of(Hosts(judge=Shaky("vllm"))) as judge:
        with pytest.raises(BackendDown, match="500"):
            await judge.start()
        await judge.start()
        assert judge.way == "completions"


@pytest.mark.parametrize("other", [FakeServer("vllm", Model(seed="b")), FakeServer("openai")])
async def test_a_judge_that_comes_back_as_another_is_refused(other: FakeServer) -> None:
    """What it says would be remembered as if the first had said it."""
    hosts = Hosts(judge=FakeServer("vllm"))
    async with judge_of(hosts) as judge:
        await judge.start()
        hosts.servers["judge"] = other
        with pytest.raises(SetupError):
            await judge.start()


async def test_a_server_that_restarts_as_another_model_stays_out() -> None:
    """Of two servers one dies and comes back with other verdicts: only the first is asked."""
    hosts = Hosts(a=FakeServer("vllm"), b=FakeServer("vllm"))
    async with judge_of(hosts) as judge:
        await judge.start()
        hosts.servers["b"].fails_with = 500
        for inquiry in INQUIRIES[:12]:
            await judge.decide([inquiry])
        changed = hosts.servers["b"] = FakeServer("vllm", Model(seed="b"))
        await until(lambda: "v1/completions" in changed.paths())
        changed.asked.clear()
        answers = await judge.decide(INQUIRIES)

    assert len(shares(answers)) == len(INQUIRIES)
    assert not any(len(body["prompt"]) > 10 for path, body in changed.asked if path != "v1/models")
