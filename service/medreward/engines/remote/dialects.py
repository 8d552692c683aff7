"""The dialects of judge servers: each asks for one token's probabilities and reads the replies."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from medreward.engines.capacity import Capacity
from medreward.engines.judge import Inquiry, Judgement
from medreward.engines.prompts.fence import Fence
from medreward.engines.prompts.frame import PromptFrame
from medreward.engines.prompts.labels import judgement_from_masses, masses_of
from medreward.engines.templates import Template
from medreward.errors import NonsenseReply, Problem, ProblemKind

TOP_LOGPROBS = 20
# Each inquiry is a request of its own, so a slow one does not delay the answers of others.
ONE_EACH = Capacity(batch=1, concurrency=16)
MANY_EACH = Capacity(batch=64, concurrency=8)
WORDS_OF_A_VERDICT = 16
"""Tokens for a verdict in JSON, if a server returns no probabilities."""

Answer = Judgement | Problem
Labels = Mapping[str, Sequence[int]]
"""The token ids that begin each label."""

UNREADABLE = Problem(ProblemKind.JUDGE_UNPARSEABLE, "judge: the reply holds no token probabilities")
FILTERED = Problem(ProblemKind.JUDGE_REFUSED, "judge: the server filtered its reply")


@dataclass(frozen=True, slots=True)
class Chat:
    """One chat request for each inquiry, whose first token has the likeliest alternatives."""

    model: str
    fence: Fence
    coverage_floor: float
    top: int = TOP_LOGPROBS
    prefill: Mapping[str, object] | None = None
    """Fields that make the server continue the template's opening; None if it cannot."""
    limit: str = "max_tokens"
    name: ClassVar = "chat"
    path: ClassVar = "chat/completions"
    capacity: ClassVar = ONE_EACH

    @property
    def identity(self) -> str:
        """The dialect with its prefill and number of tokens, which change probabilities."""
        prefilled = "" if self.prefill is None else "+opening"
        return f"chat{prefilled}" + ("" if self.top == TOP_LOGPROBS else f"+top{self.top}")

    def body(self, inquiries: Sequence[Inquiry]) -> dict[str, object]:
        """Write the request for one inquiry."""
        (inquiry,) = inquiries
        messages = [{"role": "user", "content": self.fence.render(inquiry)}]
        if self.prefill is not None:
            messages.append({"role": "assistant", "content": inquiry.template.opening})
        return {
            "model": self.model,
            "messages": messages,
            "temperature": 0,
            self.limit: 1,
            "logprobs": True,
            "top_logprobs": self.top,
            **(self.prefill or {}),
        }

    def read(self, reply: Any, inquiries: Sequence[Inquiry]) -> list[Answer]:
        """Parse the only choice."""
        (inquiry,) = inquiries
        return [_read_choice(first_choice(reply), inquiry.template, self.coverage_floor)]


@dataclass(frozen=True, slots=True)
class ConstrainedChat:
    """One chat request for each inquiry, with the reply restricted to the labels, without probabilities."""

    model: str
    fence: Fence
    structure: str = "response_format"
    limit: str = "max_tokens"
    name: ClassVar = "chat"
    path: ClassVar = "chat/completions"
    capacity: ClassVar = ONE_EACH

    @property
    def identity(self) -> str:
        """The structure that restricts the reply."""
        return f"choice:{self.structure}"

    def body(self, inquiries: Sequence[Inquiry]) -> dict[str, object]:
        """Write the request for one inquiry."""
        (inquiry,) = inquiries
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": self.fence.render(inquiry)}],
            "temperature": 0,
            self.limit: WORDS_OF_A_VERDICT,
            **STRUCTURES[self.structure](inquiry.template.labels),
        }

    def read(self, reply: Any, inquiries: Sequence[Inquiry]) -> list[Answer]:
        """Parse the only choice: a text that is not a label is a problem."""
        (inquiry,) = inquiries
        choice = first_choice(reply)
        if choice.get("finish_reason") == "content_filter":
            return [FILTERED]
        labels = inquiry.template.labels
        label = spoken_label(choice, labels)
        if label is None:
            return [Problem(ProblemKind.JUDGE_UNPARSEABLE, "judge: the reply is not one label")]
        return [Judgement(labels, tuple(float(label == other) for other in labels))]


def _as_json_schema(labels: Sequence[str]) -> dict[str, object]:
    schema = {
        "type": "object",
        "properties": {"verdict": {"type": "string", "enum": list(labels)}},
        "required": ["verdict"],
        "additionalProperties": False,
    }
    described = {"name": "verdict", "strict": True, "schema": schema}
    return {"response_format": {"type": "json_schema", "json_schema": described}}


STRUCTURES: Mapping[str, Callable[[Sequence[str]], dict[str, object]]] = {
    "structured_outputs": lambda labels: {"structured_outputs": {"choice": list(labels)}},
    "regex": lambda labels: {"regex": f"({'|'.join(labels)})"},
    "grammar": lambda labels: {"grammar": f"root ::= {' | '.join(map(json.dumps, labels))}"},
    "response_format": _as_json_schema,
    "plain": lambda _labels: {},
}
"""The fields that restrict a reply to the labels, by structure; `plain` has none."""


@dataclass(frozen=True, slots=True)
class Completions:
    """Many prompts in one request, with the chat template's text around each."""

    model: str
    fence: Fence
    coverage_floor: float
    frame: PromptFrame
    ids: Mapping[Template, Labels] = field(default_factory=dict)
    """The tokens that begin labels, if they are known and the server returns the probability of
    given tokens."""
    name: ClassVar = "completions"
    path: ClassVar = "completions"
    capacity: ClassVar = MANY_EACH

    @property
    def identity(self) -> str:
        """The dialect with its frame and requested tokens, which change probabilities."""
        known = json.dumps(sorted({json.dumps(ids, sort_keys=True) for ids in self.ids.values()}))
        tokens = hashlib.sha256(known.encode()).hexdigest()[:8] if self.ids else "top"
        return f"completions:{self.frame.sha}:{tokens}"

    def prompt(self, inquiry: Inquiry) -> str:
        """Build the prompt up to the verdict."""
        content = self.fence.render(inquiry)
        return f"{self.frame.before}{content}{self.frame.after}{inquiry.template.opening}"

    def body(self, inquiries: Sequence[Inquiry]) -> dict[str, object]:
        """Build the body of a request for inquiries of one template."""
        return {
            "model": self.model,
            "prompt": [self.prompt(inquiry) for inquiry in inquiries],
            "max_tokens": 1,
            "temperature": 0,
            # The frame already contains them; a second beginning-of-text would change probabilities.
            "add_special_tokens": False,
            **self._wanted(inquiries[0].template),
        }

    def read(self, reply: Any, inquiries: Sequence[Inquiry]) -> list[Answer]:
        """Parse one choice for each prompt, by their numbers."""
        choices = all_choices(reply)
        if len(choices) != len(inquiries):
            raise NonsenseReply(f"{len(choices)} choices for {len(inquiries)} prompts")
        return [
            self._read_one(choice, inquiry.template)
            for choice, inquiry in zip(choices, inquiries, strict=True)
        ]

    def _wanted(self, template: Template) -> dict[str, object]:
        if template not in self.ids:
            return {"logprobs": TOP_LOGPROBS}
        ids = [token for ids in self.ids[template].values() for token in ids]
        return {"logprobs": 1, "logprob_token_ids": ids, "return_tokens_as_token_ids": True}

    def _read_one(self, choice: Mapping[str, Any], template: Template) -> Answer:
        if template not in self.ids or choice.get("finish_reason") == "content_filter":
            return _read_choice(choice, template, self.coverage_floor)
        try:
            told = dict(first_tokens(choice))
            masses = {
                label: sum(told[f"token_id:{token}"] for token in ids)
                for label, ids in self.ids[template].items()
            }
        except TOKENLESS:
            return UNREADABLE
        return judgement_from_masses(masses, template, self.coverage_floor)


Dialect = Chat | ConstrainedChat | Completions
"""One form of request that a server may support.

`name` is its name in `MEDREWARD_JUDGE_WAY`, `path` its route below the server's /v1, and `capacity`
the batches that suit one server; with a batch of one, each inquiry is a request. `body` builds the
body of one request for inquiries of one template, and `read` parses the reply.
"""


def by_request(dialect: Dialect, inquiries: Sequence[Inquiry]) -> list[list[int]]:
    """Group the numbers of inquiries that share a request."""
    if dialect.capacity.batch == 1:
        return [[number] for number in range(len(inquiries))]
    shared: dict[Template, list[int]] = {}
    for number, inquiry in enumerate(inquiries):
        shared.setdefault(inquiry.template, []).append(number)
    return list(shared.values())


TOKENLESS = (KeyError, IndexError, TypeError, ValueError, OverflowError, AttributeError)


def first_choice(reply: Any) -> dict[str, Any]:
    """Return the choice of a reply to one prompt.

    Raises:
        NonsenseReply: the reply holds no choice.
    """
    match reply:
        case {"choices": [dict(choice), *_]}:
            return choice
        case _:
            raise NonsenseReply("the server's reply holds no choice")


def all_choices(reply: Any) -> list[dict[str, Any]]:
    """Return the choices of a reply to many prompts, in the order of the prompts.

    Raises:
        NonsenseReply: their numbers do not count from 0.
    """
    told = reply.get("choices") if isinstance(reply, dict) else None
    if isinstance(reply, list):
        # llama.cpp answers a list of prompts by a list of replies; in older versions every choice
        # has the index 0.
        told = [first_choice(part) for part in reply]
        if all(choice.get("index") == 0 for choice in told):
            return told
    try:
        choices: list[dict[str, Any]] = sorted(told or (), key=lambda choice: choice["index"])
    except (KeyError, TypeError) as exc:
        raise NonsenseReply("the server's choices are not numbered") from exc
    if [choice["index"] for choice in choices] != list(range(len(choices))):
        raise NonsenseReply("the server's choices are not numbered")
    return choices


def first_tokens(choice: Mapping[str, Any]) -> list[tuple[str, float]]:
    """List the likeliest first tokens and their probabilities, from either form of servers.

    Raises:
        KeyError, IndexError, TypeError, ValueError, OverflowError, AttributeError: they are missing.
    """
    told = choice["logprobs"]
    if told.get("content") is not None:
        rows = told["content"][0]["top_logprobs"]
        pairs = [(row["token"], row["logprob"]) for row in rows]
    else:
        pairs = list(told["top_logprobs"][0].items())
    return [(str(token), math.exp(float(logprob))) for token, logprob in pairs]


def spoken_label(choice: Mapping[str, Any], labels: Sequence[str]) -> str | None:
    """Parse a reply's text as one label, bare or as JSON's `verdict`; None if it is neither."""
    try:
        said = str(choice["message"]["content"]).strip()
    except (KeyError, TypeError):
        return None
    try:
        told = json.loads(said)
    except (ValueError, RecursionError):
        told = said
    word = str(told.get("verdict") if isinstance(told, dict) else told).strip().upper()
    return word if word in labels else None


def _read_choice(choice: Mapping[str, Any], template: Template, coverage_floor: float) -> Answer:
    if choice.get("finish_reason") == "content_filter":
        return FILTERED
    try:
        tokens = first_tokens(choice)
    except TOKENLESS:
        return UNREADABLE
    return judgement_from_masses(masses_of(tokens, template.labels), template, coverage_floor)
