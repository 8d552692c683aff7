"""What one server can do: the cheapest way to ask it, found by trying, and why not a cheaper one."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, NamedTuple

from medreward._http import REFUSAL_STATUS, Reply, json_of
from medreward.errors import BackendDown, NonsenseReply, Problem, SetupError
from medreward.judging.judge import Inquiry, Judgement
from medreward.judging.labels import forms_of, own_ids
from medreward.judging.prompt import Fence
from medreward.judging.templates import Template
from medreward.judging.ways import (
    FILTERED,
    UNREADABLE,
    Chat,
    Choice,
    Completions,
    Frame,
    Labels,
    Way,
    first_choice,
)

Ask = Callable[[str, str, Mapping[str, object] | None], Awaitable[Reply]]
"""Sends one request to the server at hand: method, path, body."""

PROBES = (
    ("left lower lobe", "left lower lobe"),
    ("right lower lobe", "left lower lobe"),
    ("fracture of the femur", "femoral fracture"),
    ("no pneumothorax", "pneumothorax"),
)
"""Answers and references that are asked at the start."""

SAYINGS = ("left lower lobe?", "Is there a fracture: yes or no.")
"""Two messages that a chat template has to leave as they are."""

PREFILLS: Mapping[str, Mapping[str, object]] = {
    "vllm": {"add_generation_prompt": False, "continue_final_message": True},
    "sglang": {"continue_final_message": True},
    "llamacpp": {},
}
"""What makes each kind of server go on from an assistant's turn that has begun."""
SELF_HOSTED = PREFILLS.keys()
"""Kinds that run one model, which says the same when it is asked again."""
STRUCTURES = {"vllm": "structured_outputs", "sglang": "regex", "llamacpp": "grammar"}

FEW_LOGPROBS = 5
"""What some hosted servers give at most."""
NEWER_LIMIT = "max_completion_tokens"
"""What OpenAI's newer models take instead of `max_tokens`."""

WAIT_STATUS = (
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)
"""What says nothing about a way: the server is not up, or not for us."""


class NoWay(Exception):
    """A server cannot be asked in some way; the message says why."""


class Wanted(NamedTuple):
    """What a judge is to be."""

    model: str
    fence: Fence
    coverage_floor: float
    templates: Sequence[Template]
    """Those it may be asked; the first one serves for probing."""


@dataclass(frozen=True, slots=True)
class Served:
    """What a server says of the model it serves."""

    kind: str = ""
    """Who serves it: vllm, sglang, llamacpp, or something else."""
    window_tokens: int | None = None


class Visit:
    """Finds out about one server, one question at a time."""

    def __init__(self, wanted: Wanted, ask: Ask) -> None:
        self._wanted = wanted
        self._ask = ask
        self._template = wanted.templates[0]

    async def served(self) -> Served:
        """Ask what it serves.

        Raises:
            SetupError: it is a server of one model, and that is another one.
        """
        reply = await self._ask("GET", "models", None)
        if reply.status in WAIT_STATUS or reply.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            json_of(reply)
        rows = _rows(reply)
        for row in rows:
            if row.get("id") == self._wanted.model:
                return _served(row)
        if rows and all(row.get("owned_by") in {"vllm", "sglang"} for row in rows):
            names = ", ".join(str(row.get("id")) for row in rows[:5])
            raise SetupError(
                f"a server of MEDREWARD_JUDGE_URL serves {names}, not {self._wanted.model}: "
                "set MEDREWARD_JUDGE_MODEL to the name it is served by"
            )
        # It may serve others under another name, and list them in any order.
        owners = {str(row.get("owned_by") or "") for row in rows}
        return Served(kind=owners.pop() if len(owners) == 1 else "")

    async def completions(self) -> Completions:
        """Find out whether many prompts can go in one request.

        Raises:
            NoWay: it cannot.
            SetupError: the model does not answer in labels.
        """
        frame = await self._frame()
        wanted = self._wanted
        way = Completions(wanted.model, wanted.fence, wanted.coverage_floor, frame)
        ids = await self._ids()
        if ids:
            exact = replace(way, ids=ids)
            try:
                answers = await self._answers(exact, self._probes())
            except NoWay:
                answers = []
            if answers and not any(_is_mute(answer) for answer in answers):
                _check_speech(answers)
                return exact
        answers = await self._answers(way, self._probes())
        if any(_is_mute(answer) for answer in answers):
            raise NoWay("completions come without token probabilities")
        _check_speech(answers)
        return way

    async def chat(self, kind: str) -> Chat | Choice:
        """Find out how a chat request is answered.

        Raises:
            NoWay: in no way that can be read.
            SetupError: the model does not answer in labels.
        """
        plain = Chat(self._wanted.model, self._wanted.fence, self._wanted.coverage_floor)
        tries = [plain, replace(plain, top=FEW_LOGPROBS), replace(plain, limit=NEWER_LIMIT)]
        if kind in PREFILLS:
            tries.insert(0, replace(plain, prefill=PREFILLS[kind]))
        reasons: list[str] = []
        for way in tries:
            try:
                (answer,) = await self._answers(way, self._probes()[:1])
            except NoWay as exc:
                reasons.append(str(exc))
                continue
            if isinstance(answer, Judgement):
                return way
            if way.prefill is not None:
                continue  # a server may know of beginnings, and its template not
            if _is_mute(answer):
                return await self._choice(kind, way.limit)
            raise _speechless(answer)
        raise NoWay("; ".join(dict.fromkeys(reasons)))

    async def shares(self, way: Way) -> list[float]:
        """Tell how likely YES is on each probe, 0.5 where there is no verdict."""
        answers = await self._answers(way, self._probes())
        return [a.p_yes if isinstance(a, Judgement) else 0.5 for a in answers]

    async def _choice(self, kind: str, limit: str) -> Choice:
        """Find a structure that the server takes, after the model has answered freely in labels."""
        plain = Choice(self._wanted.model, self._wanted.fence, "plain", limit)
        (request,) = plain.requests(self._probes()[:1])
        told = await self._told("POST", request.path, request.body)
        try:
            free = first_choice(told)
        except NonsenseReply as exc:
            raise NoWay(str(exc)) from exc
        said = (_text(free.get("message"), "content") or "").strip().upper()
        if not re.match(rf"({'|'.join(self._template.labels)})\b", said):
            raise SetupError(
                "the judge does not answer in labels: it gives no token probabilities, and its "
                f"free reply to a probe begins with none of {'/'.join(self._template.labels)}; "
                "use another MEDREWARD_JUDGE_MODEL"
            )
        for structure in dict.fromkeys((STRUCTURES.get(kind, "response_format"), "plain")):
            way = replace(plain, structure=structure)
            try:
                (answer,) = await self._answers(way, self._probes()[:1])
            except NoWay:
                continue
            if isinstance(answer, Judgement):
                return way
        raise NoWay("it neither gives probabilities nor keeps to the labels")

    async def _frame(self) -> Frame:
        """Learn what the chat template writes around a message, from two messages."""
        one, other = [await self._templated(saying) for saying in SAYINGS]
        before, found, after = one.partition(SAYINGS[0])
        if not found or other != before + SAYINGS[1] + after:
            raise NoWay("its chat template does not leave a message as it is")
        return Frame(before, after)

    async def _templated(self, saying: str) -> str:
        messages = [{"role": "user", "content": saying}]
        try:
            told = await self._told("POST", "/apply-template", {"messages": messages})
            text = _text(told, "prompt")
            if text is not None:
                return text
        except (NoWay, NonsenseReply):
            pass
        asked = {"model": self._wanted.model, "messages": messages, "add_generation_prompt": True}
        tokens = _tokens(await self._told("POST", "/tokenize", asked))
        body = {"model": self._wanted.model, "tokens": tokens}
        text = _text(await self._told("POST", "/detokenize", body), "prompt")
        if text is None or await self._tokenised(text) != tokens:
            raise NoWay("its chat template cannot be written as text and read again")
        return text

    async def _tokenised(self, text: str) -> list[int]:
        asked = {"model": self._wanted.model, "prompt": text, "add_special_tokens": False}
        return _tokens(await self._told("POST", "/tokenize", asked))

    async def _ids(self) -> dict[Template, Labels]:
        """Find the tokens that begin each label; nothing where the server has no `/tokenize`."""
        found: dict[tuple[str, tuple[str, ...]], Labels | None] = {}
        try:
            for template in self._wanted.templates:
                key = (template.opening, template.labels)
                if key not in found:
                    found[key] = await self._labels(template)
        except (NoWay, NonsenseReply):
            return {}
        known = ((t, found[t.opening, t.labels]) for t in self._wanted.templates)
        return {template: labels for template, labels in known if labels is not None}

    async def _labels(self, template: Template) -> Labels | None:
        before = await self._tokenised(template.opening)
        firsts: dict[str, set[int]] = {}
        for label in template.labels:
            forms = [template.opening + form for form in forms_of(label)]
            written = await asyncio.gather(*map(self._tokenised, forms))
            # A tokenizer that merges the opening with the label has no verdict position there.
            kept = [ids for ids in written if ids[: len(before)] == before]
            firsts[label] = {ids[len(before)] for ids in kept if len(ids) > len(before)}
        own = own_ids(firsts)
        return own if all(own.values()) else None

    async def _answers(self, way: Way, probes: Sequence[Inquiry]) -> list[Judgement | Problem]:
        answers: dict[int, Judgement | Problem] = {}
        for request in way.requests(probes):
            reply = await self._told("POST", request.path, request.body)
            try:
                read = way.read(reply, [probes[number] for number in request.members])
            except NonsenseReply as exc:
                raise NoWay(str(exc)) from exc
            answers.update(zip(request.members, read, strict=True))
        return [answers[number] for number in range(len(probes))]

    async def _told(self, method: str, path: str, body: Mapping[str, object]) -> Any:
        """Ask, where it is not known whether the server takes it."""
        reply = await self._ask(method, path, body)
        # Every such server can chat: one that cannot is not up yet.
        is_up = path != "chat/completions" or reply.is_success or reply.status in REFUSAL_STATUS
        if reply.status in WAIT_STATUS or not is_up:
            json_of(reply)
        if not reply.is_success:
            raise NoWay(f"{path.lstrip('/')} is answered by {reply.status}")
        try:
            return json_of(reply)
        except NonsenseReply as exc:
            raise NoWay(f"{path.lstrip('/')} is not answered in JSON") from exc

    def _probes(self) -> list[Inquiry]:
        return [Inquiry(self._template, answer, reference) for answer, reference in PROBES]


def _rows(reply: Reply) -> list[dict[str, Any]]:
    try:
        rows = json_of(reply)["data"]
    except (BackendDown, NonsenseReply, KeyError, TypeError):
        return []
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _served(row: Mapping[str, Any]) -> Served:
    window = row.get("max_model_len")
    return Served(
        kind=str(row.get("owned_by") or ""),
        window_tokens=window if isinstance(window, int) else None,
    )


def _text(told: Any, name: str) -> str | None:
    text = told.get(name) if isinstance(told, dict) else None
    return text if isinstance(text, str) else None


def _tokens(told: Any) -> list[int]:
    tokens = told.get("tokens") if isinstance(told, dict) else None
    if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
        raise NoWay("tokenize is not answered with token ids")
    return tokens


def _is_mute(answer: Judgement | Problem) -> bool:
    """Tell whether the server gave no probabilities at all."""
    return answer in {UNREADABLE, FILTERED}


def _check_speech(answers: Sequence[Judgement | Problem]) -> None:
    """Refuse a model that answers none of the probes in labels."""
    if not any(isinstance(answer, Judgement) for answer in answers):
        raise _speechless(next(a for a in answers if isinstance(a, Problem)))


def _speechless(problem: Problem) -> SetupError:
    return SetupError(
        f"the judge does not answer in labels ({problem.message}): use another "
        "MEDREWARD_JUDGE_MODEL, or lower MEDREWARD_JUDGE_COVERAGE_FLOOR"
    )
