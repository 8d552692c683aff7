"""A server in place of vLLM and of an embedding server: the protocol without the models.

usage: python benchmarks/stand_ins.py --port 9000 [--delay-ms 10] [--faults 0.01]

It speaks chat, completions, generative scoring, tokenising and embeddings, answers after a set
delay whatever the batch, and counts what it was asked (GET /stats). With --faults, that share of
the requests is answered by an error, by nonsense, by silence or by a dropped connection.
"""

import argparse
import asyncio
import base64
import math
import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import orjson
import uvicorn
from starlette.types import Receive, Scope, Send

from verdicts import probabilities, vector

MODELS = ("Qwen/Qwen3-4B-Instruct-2507", "abhinand/MedEmbed-large-v0.1")
MAX_MODEL_TOKENS = 40_960
LONGEST_SILENCE_S = 120.0
FAULTS = ("500", "503", "nonsense", "empty", "drop", "silence")

Prompt = str | Sequence[int]
Asked = dict[str, Any]


class Tokenizer:
    """Words, single digits and single signs; new ones get the next number."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._numbers: dict[str, int] = {}

    def encode(self, text: str) -> list[int]:
        """Text to numbers. Those of two texts, joined, are those of the joined text."""
        return [self.number(piece) for piece in re.findall(r" ?[^\W\d_]+|.", text, re.DOTALL)]

    def decode(self, prompt: Prompt) -> str:
        """Numbers to text; text stays what it is."""
        if isinstance(prompt, str):
            return prompt
        return "".join(self._pieces[number] for number in prompt)

    def number(self, piece: str) -> int:
        """The number of one piece."""
        if piece not in self._numbers:
            self._numbers[piece] = len(self._pieces)
            self._pieces.append(piece)
        return self._numbers[piece]


class StandIn:
    """The server, as an ASGI app."""

    def __init__(self, *, delay_s: float, fault_share: float = 0.0) -> None:
        self._delay_s = delay_s
        self._fault_share = fault_share
        self._chance = random.Random(1)  # noqa: S311 - the same faults every time
        self._tokenizer = Tokenizer()
        self._calls: Counter[str] = Counter()
        self._questions: Counter[str] = Counter()
        self._answer_to: dict[str, Callable[[Asked], Any]] = {
            "/v1/chat/completions": self._chat,
            "/v1/completions": self._completions,
            "/v1/embeddings": self._embeddings,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope["path"]
        body = await _body(receive)
        if path in self._answer_to:
            if self._chance.random() < self._fault_share:
                await self._fail(receive, send)
                return
            await self._answer(path, orjson.loads(body), send)
        elif path == "/tokenize":
            await _send(send, self._tokenize(orjson.loads(body)))
        elif path == "/detokenize":
            text = self._tokenizer.decode(orjson.loads(body)["tokens"])
            await _send(send, {"prompt": text})
        else:
            reply = self._about().get(path)
            await _send(send, reply, status=404 if reply is None else 200)

    async def _answer(self, path: str, asked: Asked, send: Send) -> None:
        self._calls[path] += 1
        # The clock runs while the reply is written, as a model's would.
        waiting = asyncio.ensure_future(asyncio.sleep(self._delay_s))
        reply = self._answer_to[path](asked)
        await waiting
        await _send(send, reply)

    async def _fail(self, receive: Receive, send: Send) -> None:
        """Answer as a server in trouble would."""
        fault = self._chance.choice(FAULTS)
        self._calls[f"fault {fault}"] += 1
        if fault in {"500", "503"}:
            await _send(send, {"error": {"message": "in trouble"}}, status=int(fault))
        elif fault == "nonsense":
            await _send_bytes(send, b"<html>choices: YES</html>", 200)
        elif fault == "empty":
            await _send(send, {"choices": [], "data": []})
        elif fault == "silence":
            await asyncio.wait_for(_until_gone(receive), LONGEST_SILENCE_S)
        else:
            # Fewer bytes than were promised: uvicorn closes the connection.
            await _send_start(send, 200, length=1000)
            await send({"type": "http.response.body", "body": b'{"choices": [{'})

    def _about(self) -> dict[str, Any]:
        models = [{"id": m, "object": "model", "max_model_len": MAX_MODEL_TOKENS} for m in MODELS]
        stats = {"calls": dict(self._calls), "questions": dict(self._questions)}
        return {
            "/v1/models": {"object": "list", "data": models},
            "/stats": stats,
            "/health": {},
            "/version": {"version": "0.22.1"},
        }

    def _chat(self, asked: Asked) -> Any:
        self._questions["/v1/chat/completions"] += 1
        likely = probabilities("\n".join(m["content"] for m in asked["messages"]))
        best = max(likely, key=likely.__getitem__)
        choice: dict[str, Any] = {
            "index": 0,
            "message": {"role": "assistant", "content": best},
            "finish_reason": "length",
        }
        if asked.get("logprobs"):
            tops = [_token(t, p) for t, p in _top(likely, asked.get("top_logprobs") or 1)]
            choice["logprobs"] = {"content": [{**tops[0], "top_logprobs": tops}]}
        return _generated("chat.completion", asked, [choice])

    def _completions(self, asked: Asked) -> Any:
        prompts = _prompts(asked["prompt"])
        self._questions["/v1/completions"] += len(prompts)
        choices = [self._completion(n, prompt, asked) for n, prompt in enumerate(prompts)]
        return _generated("text_completion", asked, choices)

    def _completion(self, index: int, prompt: Prompt, asked: Asked) -> dict[str, Any]:
        tops = _top(probabilities(self._tokenizer.decode(prompt)), asked.get("logprobs") or 1)
        if asked.get("return_tokens_as_token_ids"):
            tops = [(f"token_id:{self._tokenizer.number(token)}", p) for token, p in tops]
        best, likely = tops[0]
        logprobs = {
            "text_offset": [0],
            "tokens": [best],
            "token_logprobs": [math.log(likely)],
            "top_logprobs": [{token: math.log(p) for token, p in tops}],
        }
        shown = logprobs if asked.get("logprobs") is not None else None
        return {"index": index, "text": best, "logprobs": shown, "finish_reason": "length"}

    def _tokenize(self, asked: Asked) -> Any:
        text = asked["prompt"] if "prompt" in asked else _chat_text(asked)
        tokens = self._tokenizer.encode(text)
        strings = [self._tokenizer.decode([t]) for t in tokens]
        return {
            "count": len(tokens),
            "max_model_len": MAX_MODEL_TOKENS,
            "tokens": tokens,
            "token_strs": strings if asked.get("return_token_strs") else None,
        }

    def _embeddings(self, asked: Asked) -> Any:
        texts = [self._tokenizer.decode(text) for text in _prompts(asked["input"])]
        self._questions["/v1/embeddings"] += len(texts)
        vectors = map(vector, texts)
        if asked.get("encoding_format") == "base64":
            rows: Iterable[Any] = (base64.b64encode(v.tobytes()).decode() for v in vectors)
        else:
            rows = vectors
        data = [{"object": "embedding", "index": n, "embedding": r} for n, r in enumerate(rows)]
        return {"object": "list", "model": asked.get("model"), "data": data, "usage": _USAGE}


_USAGE = {"prompt_tokens": 1, "total_tokens": 1, "completion_tokens": 0}


def _generated(kind: str, asked: Asked, choices: list[dict[str, Any]]) -> Any:
    named = {"id": "stand-in", "object": kind, "created": 0, "model": asked.get("model")}
    return {**named, "choices": choices, "usage": _USAGE}


def _prompts(given: Any) -> Sequence[Prompt]:
    """One prompt or several, as text or as token numbers."""
    is_one = isinstance(given, str) or (bool(given) and isinstance(given[0], int))
    return [given] if is_one else given


def _chat_text(asked: Asked) -> str:
    turns = [f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in asked["messages"]]
    if asked.get("continue_final_message"):
        turns[-1] = turns[-1].removesuffix("<|im_end|>\n")
    opening = "<|im_start|>assistant\n" if asked.get("add_generation_prompt", True) else ""
    return "".join(turns) + opening


def _top(likely: dict[str, float], number: int) -> list[tuple[str, float]]:
    return sorted(likely.items(), key=lambda item: -item[1])[:number]


def _token(token: str, probability: float) -> dict[str, Any]:
    return {"token": token, "logprob": math.log(probability), "bytes": list(token.encode())}


async def _body(receive: Receive) -> bytes:
    body: bytes = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send(send: Send, reply: Any, status: int = 200) -> None:
    await _send_bytes(send, orjson.dumps(reply, option=orjson.OPT_SERIALIZE_NUMPY), status)


async def _send_bytes(send: Send, body: bytes, status: int) -> None:
    await _send_start(send, status, length=len(body))
    await send({"type": "http.response.body", "body": body})


def _send_start(send: Send, status: int, *, length: int) -> Awaitable[None]:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(length).encode()),
    ]
    return send({"type": "http.response.start", "status": status, "headers": headers})


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--delay-ms", type=float, default=10.0)
    parser.add_argument("--faults", type=float, default=0.0, help="share of requests, 0 to 1")
    arguments = parser.parse_args()
    uvicorn.run(
        StandIn(delay_s=arguments.delay_ms / 1000, fault_share=arguments.faults),
        port=arguments.port,
        lifespan="off",
        loop="uvloop",
        http="httptools",
        log_level="critical",
        # Longer than any client keeps a connection: a call must never meet one just closed.
        timeout_keep_alive=600,
    )


if __name__ == "__main__":
    main()
