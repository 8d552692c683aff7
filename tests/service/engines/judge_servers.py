"""Stand-ins at the wire for the servers that people run, all with one small deterministic model."""

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from medreward.engines.remote.pool import Pauses

MODEL = "toy"
SHORT_PAUSES = Pauses(first_s=0.001, longest_s=0.02, first_rest_s=0.01, longest_rest_s=0.02)
"""Pauses that no test has to sit through."""
NOTHING = object()
VOCABULARY: dict[str, int] = {}
"""Each piece seen so far and its id: the same for all models, as for the revisions of one."""
PIECES = re.compile(r"<\|\w+\|>|Y(?=ES)| ?[A-Za-z]+|\s|\S")
"""The tokenizer: marks, words with the space before them, and single characters. YES is two tokens."""


class Model:
    """Reads tokens, and says with what probability each token comes next."""

    def __init__(self, *, spread: bool = False, mute: bool = False, seed: str = "") -> None:
        self._seed = seed
        self._spread = spread
        self._mute = mute

    def tokens(self, text: str) -> list[int]:
        """Text as token ids."""
        return [VOCABULARY.setdefault(piece, len(VOCABULARY)) for piece in PIECES.findall(text)]

    def text(self, ids: Sequence[int]) -> str:
        """Token ids as text."""
        pieces = {number: piece for piece, number in VOCABULARY.items()}
        return "".join(pieces[number] for number in ids)

    def next(self, ids: Sequence[int]) -> dict[str, float]:
        """The next token's distribution: a digest of all that was read decides."""
        text = self.text(ids)
        if text.endswith("Grade: "):
            return {"4": 0.6, "5": 0.3, " high": 0.1}
        digest = hashlib.sha256(repr((self._seed, text)).encode()).digest()
        yes = 0.02 + 0.96 * digest[0] / 255
        if self._mute:
            return {" The": 0.95, " YES": 0.04, " NO": 0.01}
        if self._spread:
            return {" YES": yes * 0.5, " Yes": yes * 0.3, "Y": yes * 0.1, " NO": 0.9 * (1 - yes)}
        return {" YES": yes * 0.97, " NO": (1 - yes) * 0.97, " The": 0.03}


def templated(messages: Sequence[Mapping[str, str]], *, goes_on: bool = False) -> str:
    """The chat template: a mark before each turn, and one for the assistant's turn to come."""
    turns = "".join(f"<|{m['role']}|>\n{m['content']}<|end|>\n" for m in messages)
    return turns.removesuffix("<|end|>\n") if goes_on else f"{turns}<|assistant|>\n"


class FakeServer:
    """One server: its kind, its model, and what it was asked."""

    def __init__(self, kind: str, model: Model | None = None, *, window: int = 4096) -> None:
        self.kind = kind
        self.model = model or Model()
        self.window = window
        self.asked: list[tuple[str, Any]] = []
        self.fails_with: int | None = None
        """A status that every request gets, while it is set."""
        self.says: Any = NOTHING
        """What every request gets, while it is set."""
        self.refuses: Callable[[Any], bool] = lambda _body: False
        """Which chat requests get a 400."""
        self.has_probabilities = kind != "litellm"
        self.app = Starlette(routes=[Route("/{path:path}", self._serve, methods=["GET", "POST"])])

    def paths(self) -> list[str]:
        """The paths asked, in order."""
        return [path for path, _ in self.asked]

    async def _serve(self, request: Request) -> Response:
        path = request.path_params["path"]
        body = await request.json() if request.method == "POST" else None
        self.asked.append((path, body))
        if self.fails_with is not None:
            return Response(status_code=self.fails_with)
        if self.says is not NOTHING:
            return JSONResponse(self.says)
        handler: Callable[[Any], Any] | None = getattr(self, SERVES[self.kind].get(path, ""), None)
        told = handler(body) if handler else None
        return Response(status_code=404) if told is None else JSONResponse(told, _status(told))

    def models(self, _body: object) -> object:
        """Which model is served."""
        owner = {"openai": "system", "litellm": "openai", "old vllm": "vllm"}.get(
            self.kind, self.kind
        )
        return {"data": [{"id": MODEL, "owned_by": owner, "max_model_len": self.window}]}

    def tokenize(self, body: Any) -> object:
        """Of messages or of a text."""
        text = templated(body["messages"]) if "messages" in body else body["prompt"]
        ids = self.model.tokens(text)
        return {"tokens": ids, "count": len(ids), "max_model_len": self.window}

    def detokenize(self, body: Any) -> object:
        """Back to text."""
        return {"prompt": self.model.text(body["tokens"])}

    def apply_template(self, body: Any) -> object:
        """The templated text."""
        return {"prompt": templated(body["messages"])}

    def completions(self, body: Any) -> object:
        """One choice a prompt."""
        if any(len(self.model.tokens(prompt)) >= self.window for prompt in body["prompt"]):
            return {"error": {"message": "maximum context length", "code": 400}}
        tops = [self.model.next(self.model.tokens(prompt)) for prompt in body["prompt"]]
        choices = [self._choice(i, top, body) for i, top in enumerate(tops)]
        usage = {"prompt_tokens": 100 * len(choices), "completion_tokens": len(choices)}
        if self.kind == "llamacpp":
            return [{"choices": [choice], "usage": {"prompt_tokens": 100}} for choice in choices]
        # Servers may answer the last one first.
        return {"choices": choices[::-1], "usage": usage}

    def chat(self, body: Any) -> object:
        """One choice."""
        if self.refuses(body) or (self.kind == "openai" and body.keys() - OPENAI_FIELDS):
            return {"error": {"message": "unknown field", "code": 400}}
        goes_on = body["messages"][-1]["role"] == "assistant"
        top = self.model.next(self.model.tokens(templated(body["messages"], goes_on=goes_on)))
        usage = {"prompt_tokens": 100, "completion_tokens": 1}
        if not self.has_probabilities:
            said = _said(max(top, key=lambda token: top[token]).strip(), body)
            return {"choices": [{"message": {"content": said}}], "usage": usage}
        rows = [{"token": token, "logprob": _log(share)} for token, share in top.items()]
        return {"choices": [{"logprobs": {"content": [{"top_logprobs": rows}]}}], "usage": usage}

    def _choice(self, index: int, top: Mapping[str, float], body: Any) -> dict[str, Any]:
        if self.kind == "llamacpp":
            rows = [{"token": token, "logprob": _log(share)} for token, share in top.items()]
            return {"index": 0, "logprobs": {"content": [{"top_logprobs": rows}]}}
        told = {token: _log(share) for token, share in top.items()}
        if "logprob_token_ids" in body and self.kind == "vllm":
            wanted = {number: self.model.text([number]) for number in body["logprob_token_ids"]}
            told = {f"token_id:{n}": _log(top.get(text, 0.0)) for n, text in wanted.items()}
        return {"index": index, "logprobs": {"top_logprobs": [told]}}


OPENAI_FIELDS = {
    *("model", "messages", "temperature", "max_tokens", "logprobs", "top_logprobs"),
    "response_format",
}
EVERYONE = {"v1/models": "models", "v1/chat/completions": "chat"}
PROMPTED = EVERYONE | {"v1/completions": "completions"}
VLLM = PROMPTED | {"tokenize": "tokenize", "detokenize": "detokenize"}
SERVES: Mapping[str, Mapping[str, str]] = {
    "vllm": VLLM,
    "old vllm": VLLM,  # before it had `logprob_token_ids`
    "sglang": PROMPTED,
    "llamacpp": PROMPTED | {"apply-template": "apply_template"},
    "openai": EVERYONE,
    "litellm": EVERYONE,
}


def _said(label: str, body: Any) -> str:
    """What a server says that is, or is not, held to the labels."""
    if "response_format" in body:
        return f'{{"verdict": "{label}"}}'
    return label if body.keys() & {"structured_outputs", "regex", "grammar"} else f"{label}."


def _log(share: float) -> float:
    return math.log(share) if share > 0 else -9999.0


def _status(told: Any) -> int:
    error = told.get("error") if isinstance(told, dict) else None
    return int(error["code"]) if error else 200


class Hosts(httpx.AsyncBaseTransport):
    """Leads each host name to a server of its own; a host without one cannot be reached."""

    def __init__(self, **servers: FakeServer) -> None:
        self.servers = servers

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Hand the request to its host's app."""
        server = self.servers.get(request.url.host)
        if server is None:
            raise httpx.ConnectError("refused", request=request)
        return await httpx.ASGITransport(server.app).handle_async_request(request)
