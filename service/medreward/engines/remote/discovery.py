"""Discovery of the dialects that a judge's server supports, by probes; the first that works is used.

Dialects are tried in the order of their price: many prompts in one request (`completions`), then
one chat request for each inquiry. The variants of a dialect, such as the number of
log-probabilities that a server returns, are a list of candidates in the order in which they are
tried. A candidate that a server does not take is a value, `Unsupported`, with its reason; an
exception concerns all dialects: the server is down, or serves another model.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, NamedTuple

from medreward.engines.judge import Inquiry, Judgement
from medreward.engines.prompts.fence import Fence
from medreward.engines.prompts.frame import PromptFrame
from medreward.engines.prompts.labels import forms_of, own_ids
from medreward.engines.remote.dialects import (
    FILTERED,
    UNREADABLE,
    Chat,
    Completions,
    ConstrainedChat,
    Dialect,
    Labels,
    by_request,
    first_choice,
)
from medreward.engines.remote.http_client import REFUSAL_STATUS, Reply, json_of
from medreward.engines.templates import Template
from medreward.errors import BackendDown, NonsenseReply, Problem, SetupError

Send = Callable[[str, str, Mapping[str, object] | None], Awaitable[Reply]]
"""Sends one request to one server: method, path, body."""

PROBES = (
    ("left lower lobe", "left lower lobe"),
    ("right lower lobe", "left lower lobe"),
    ("fracture of the femur", "femoral fracture"),
    ("no pneumothorax", "pneumothorax"),
)
"""Answers and references of the inquiries that are judged at the start."""

SAYINGS = ("left lower lobe?", "Is there a fracture: yes or no.")
"""Two messages that a chat template has to leave unchanged."""

PREFILLS: Mapping[str, Mapping[str, object]] = {
    "vllm": {"add_generation_prompt": False, "continue_final_message": True},
    "sglang": {"continue_final_message": True},
    "llamacpp": {},
}
"""The fields, by kind of server, with which it continues an assistant's turn that has begun."""
SELF_HOSTED = PREFILLS.keys()
"""Kinds of server that run one model, whose probabilities are the same each time."""
STRUCTURES = {"vllm": "structured_outputs", "sglang": "regex", "llamacpp": "grammar"}

FEW_LOGPROBS = 5
"""The most log-probabilities that some hosted servers return."""
NEWER_LIMIT = "max_completion_tokens"
"""The field that OpenAI's newer models take instead of `max_tokens`."""

WAIT_STATUS = (
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)
"""Statuses that do not depend on the dialect: the server is not up, or refuses our key."""


class JudgeSpec(NamedTuple):
    """The judge that a server has to provide."""

    model: str
    fence: Fence
    coverage_floor: float
    templates: Sequence[Template]
    """The templates in use; the probes have the first one."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A server's own description of the model."""

    kind: str = ""
    """The server's software: vllm, sglang, llamacpp, or something else."""
    window_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A server does not take a dialect, or a request of it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Mute(Unsupported):
    """A server takes a chat request, but returns no probabilities: only its text can be used."""

    limit: str
    """The field for the most tokens that the server accepted."""


class Probe:
    """Discovers, one request at a time, the model and the dialects of one server."""

    def __init__(self, spec: JudgeSpec, send: Send) -> None:
        self._spec = spec
        self._send = send
        self._template = spec.templates[0]

    async def served(self) -> ServedModel:
        """Request the server's description of the model.

        Raises:
            SetupError: it is a server of one model, and serves another.
        """
        reply = await self._send("GET", "models", None)
        is_page = reply.is_success and not reply.is_json
        if reply.status in {*WAIT_STATUS, HTTPStatus.INTERNAL_SERVER_ERROR} or is_page:
            json_of(reply)
        rows = _rows(reply)
        for row in rows:
            if row.get("id") == self._spec.model:
                window = row.get("max_model_len")
                kind = str(row.get("owned_by") or "")
                return ServedModel(kind, window if isinstance(window, int) else None)
        if rows and all(row.get("owned_by") in {"vllm", "sglang"} for row in rows):
            names = ", ".join(str(row.get("id")) for row in rows[:5])
            raise SetupError(
                f"a server of MEDREWARD_JUDGE_URL serves {names}, not {self._spec.model}: "
                "set MEDREWARD_JUDGE_MODEL to the name it is served by"
            )
        # A server of many models may list them under other names, and in any order.
        owners = {str(row.get("owned_by") or "") for row in rows}
        return ServedModel(kind=owners.pop() if len(owners) == 1 else "")

    async def completions(self) -> Dialect | Unsupported:
        """Find a variant of completions, which has many prompts in one request.

        Raises:
            SetupError: the model does not answer in labels.
        """
        frame = await self._frame()
        if isinstance(frame, Unsupported):
            return frame
        spec = self._spec
        likeliest = Completions(spec.model, spec.fence, spec.coverage_floor, frame)
        ids = await self._ids()
        candidates = [replace(likeliest, ids=ids), likeliest] if ids else [likeliest]
        return await self._first_that_works(candidates)

    async def chat(self, kind: str) -> Dialect | Unsupported:
        """Find a variant of chat requests.

        Raises:
            SetupError: the model does not answer in labels.
        """
        spec = self._spec
        plain = Chat(spec.model, spec.fence, spec.coverage_floor)
        candidates = [plain, replace(plain, top=FEW_LOGPROBS), replace(plain, limit=NEWER_LIMIT)]
        if kind in PREFILLS:
            candidates.insert(0, replace(plain, prefill=PREFILLS[kind]))
        found = await self._first_that_works(candidates)
        if not isinstance(found, Mute):
            return found
        # A restricted reply is always a label, also from a model that would not answer in labels.
        # So the model answers without restriction first.
        refusal = await self._check_free_reply(found.limit)
        if refusal is not None:
            return refusal
        structures = dict.fromkeys((STRUCTURES.get(kind, "response_format"), "plain"))
        restricted = [
            ConstrainedChat(spec.model, spec.fence, name, found.limit) for name in structures
        ]
        return await self._first_that_works(restricted)

    async def _first_that_works(self, candidates: Sequence[Dialect]) -> Dialect | Unsupported:
        """Try candidates in their order; return the first that gives verdicts, otherwise all reasons.

        A server that is mute for one candidate is mute for the later ones too, so the search ends.
        """
        reasons: list[str] = []
        for dialect in candidates:
            refusal = await self._trial(dialect)
            if refusal is None:
                return dialect
            if isinstance(refusal, Mute):
                return refusal
            reasons.append(refusal.reason)
        return Unsupported("; ".join(dict.fromkeys(reasons)))

    async def _trial(self, dialect: Dialect) -> Unsupported | None:
        """Send the probes of one request; return the reason if the dialect does not work, or None.

        Raises:
            SetupError: the model answers, but not in labels.
        """
        answers = await self._answers(dialect, self._probes()[: dialect.capacity.batch])
        if isinstance(answers, Unsupported):
            return answers
        is_mute = any(answer in {UNREADABLE, FILTERED} for answer in answers)
        if not is_mute and any(isinstance(answer, Judgement) for answer in answers):
            return None
        match dialect:
            case ConstrainedChat():
                return Unsupported("it neither gives probabilities nor keeps to the labels")
            case Chat() if dialect.prefill is not None:
                # The server may support turns that have begun, but the model's template may not.
                return Unsupported("it does not continue a turn that has begun")
            case Chat() if is_mute:
                return Mute("chat replies come without token probabilities", dialect.limit)
            case _ if is_mute:
                return Unsupported("completions come without token probabilities")
        problem = next(answer for answer in answers if isinstance(answer, Problem))
        raise SetupError(
            f"the judge does not answer in labels ({problem.message}): use another "
            "MEDREWARD_JUDGE_MODEL, or lower MEDREWARD_JUDGE_COVERAGE_FLOOR"
        )

    async def p_yes(self, dialect: Dialect) -> list[float] | Unsupported:
        """Return the probability of YES for each probe, 0.5 without a verdict."""
        answers = await self._answers(dialect, self._probes())
        if isinstance(answers, Unsupported):
            return answers
        return [a.p_yes if isinstance(a, Judgement) else 0.5 for a in answers]

    async def _check_free_reply(self, limit: str) -> Unsupported | None:
        """Check that the model begins a reply without restriction with a label."""
        free = ConstrainedChat(self._spec.model, self._spec.fence, "plain", limit)
        told = await self._json("POST", free.path, free.body(self._probes()[:1]))
        if isinstance(told, Unsupported):
            return told
        try:
            choice = first_choice(told)
        except NonsenseReply as exc:
            return Unsupported(str(exc))
        said = (_text(choice.get("message"), "content") or "").strip().upper()
        if not re.match(rf"({'|'.join(self._template.labels)})\b", said):
            raise SetupError(
                "the judge does not answer in labels: it gives no token probabilities, and its "
                f"free reply to a probe begins with none of {'/'.join(self._template.labels)}; "
                "use another MEDREWARD_JUDGE_MODEL"
            )
        return None

    async def _frame(self) -> PromptFrame | Unsupported:
        """Derive the text that the chat template writes around a message, from two messages."""
        texts: list[str] = []
        for saying in SAYINGS:
            text = await self._templated(saying)
            if isinstance(text, Unsupported):
                return text
            texts.append(text)
        before, found, after = texts[0].partition(SAYINGS[0])
        if not found or texts[1] != before + SAYINGS[1] + after:
            return Unsupported("its chat template does not leave a message as it is")
        return PromptFrame(before, after)

    async def _templated(self, saying: str) -> str | Unsupported:
        messages = [{"role": "user", "content": saying}]
        told = await self._json("POST", "/apply-template", {"messages": messages})
        text = _text(told, "prompt")
        if text is not None:
            return text
        model = self._spec.model
        asked = {"model": model, "messages": messages, "add_generation_prompt": True}
        tokens = _tokens(await self._json("POST", "/tokenize", asked))
        if isinstance(tokens, Unsupported):
            return tokens
        told = await self._json("POST", "/detokenize", {"model": model, "tokens": tokens})
        text = _text(told, "prompt")
        if text is None or await self._tokenised(text) != tokens:
            return Unsupported("its chat template cannot be written as text and read again")
        return text

    async def _tokenised(self, text: str) -> list[int] | Unsupported:
        asked = {"model": self._spec.model, "prompt": text, "add_special_tokens": False}
        return _tokens(await self._json("POST", "/tokenize", asked))

    async def _ids(self) -> dict[Template, Labels]:
        """Find the tokens that begin each label; an empty dict if the server has no `/tokenize`."""
        found: dict[tuple[str, tuple[str, ...]], Labels | None] = {}
        for template in self._spec.templates:
            key = (template.opening, template.labels)
            if key not in found:
                labels = await self._labels(template)
                if isinstance(labels, Unsupported):
                    return {}
                found[key] = labels
        known = ((t, found[t.opening, t.labels]) for t in self._spec.templates)
        return {template: labels for template, labels in known if labels is not None}

    async def _labels(self, template: Template) -> Labels | Unsupported | None:
        """Find the tokens that begin each label of a template; None if one has no token of its own."""
        before = await self._tokenised(template.opening)
        if isinstance(before, Unsupported):
            return before
        firsts: dict[str, set[int]] = {}
        for label in template.labels:
            forms = [template.opening + form for form in forms_of(label)]
            firsts[label] = set()
            for ids in await asyncio.gather(*map(self._tokenised, forms)):
                if isinstance(ids, Unsupported):
                    return ids
                # A tokenizer that merges the opening with the label has no verdict position there.
                if ids[: len(before)] == before and len(ids) > len(before):
                    firsts[label].add(ids[len(before)])
        own = own_ids(firsts)
        return own if all(own.values()) else None

    async def _answers(
        self, dialect: Dialect, probes: Sequence[Inquiry]
    ) -> list[Judgement | Problem] | Unsupported:
        answers: list[Judgement | Problem] = []
        # All probes have one template, so the requests come in the order of the probes.
        for numbers in by_request(dialect, probes):
            members = [probes[number] for number in numbers]
            told = await self._json("POST", dialect.path, dialect.body(members))
            if isinstance(told, Unsupported):
                return told
            try:
                answers += dialect.read(told, members)
            except NonsenseReply as exc:
                return Unsupported(str(exc))
        return answers

    async def _json(self, method: str, path: str, body: Mapping[str, object]) -> Any:
        """Send a request that the server may not take; return its JSON, or `Unsupported`.

        Raises:
            BackendDown: the server is not up.
        """
        reply = await self._send(method, path, body)
        # Every such server supports chat: one that fails there, or sends a page, is not up yet.
        is_chat = path == "chat/completions"
        if not is_chat and reply.is_wrapped and reply.status == HTTPStatus.BAD_GATEWAY:
            # Some answer by such a success at every route that they do not have.
            return Unsupported(f"{path.lstrip('/')} is answered by an error")
        is_answer = (reply.is_success and reply.is_json) or reply.status in REFUSAL_STATUS
        if reply.status in WAIT_STATUS or (is_chat and not is_answer):
            json_of(reply)
        if not reply.is_success:
            return Unsupported(f"{path.lstrip('/')} is answered by {reply.status}")
        try:
            return json_of(reply)
        except (BackendDown, NonsenseReply):
            return Unsupported(f"{path.lstrip('/')} is not answered in JSON")

    def _probes(self) -> list[Inquiry]:
        return [Inquiry(self._template, answer, reference) for answer, reference in PROBES]


def _rows(reply: Reply) -> list[dict[str, Any]]:
    try:
        rows = json_of(reply)["data"]
    except (BackendDown, NonsenseReply, KeyError, TypeError):
        return []
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _text(told: Any, name: str) -> str | None:
    text = told.get(name) if isinstance(told, dict) else None
    return text if isinstance(text, str) else None


def _tokens(told: Any) -> list[int] | Unsupported:
    if isinstance(told, Unsupported):
        return told
    tokens = told.get("tokens") if isinstance(told, dict) else None
    if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
        return Unsupported("tokenize is not answered with token ids")
    return tokens
