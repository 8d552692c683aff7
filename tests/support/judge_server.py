"""A server in place of the models: a judge that does what a test's rule says, and an embedder.

Nothing of the service is imported: trainers' environments have the client alone.
"""

import json
import math
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import shake_256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self

Say = Literal["YES", "NO", "gibberish", "400", "500", "silence"]
"""What the stand-in's judge does: a verdict, a word that is none, a status, or nothing at all."""
Rule = Callable[[str, str], Say]
"""What it does about an answer and a reference, or about two answers that it compares."""

MODEL = "stand-in"
DIMENSIONS = 32
POLL_S = 0.05

_FIELD = re.compile(r'^(reference|candidate|first|second): (".*")$', re.MULTILINE)


def equal_is_yes(answer: str, reference: str) -> Say:
    """Say YES to what the reference says, in whatever case."""
    return "YES" if answer.casefold() == reference.casefold() else "NO"


def failing_for(*answers: str) -> Rule:
    """Answer with a server error for these answers, and say YES to equal ones otherwise."""
    return lambda answer, reference: "500" if answer in answers else equal_is_yes(answer, reference)


class Models:
    """Judge and embedder behind one address, in threads of this process.

    `rule` may be replaced at any time, and may do more than answer: it runs while the service
    waits for a verdict. The service's own probes (its start, and after failures) go by it too.
    """

    def __init__(self, rule: Rule = equal_is_yes) -> None:
        self.rule = rule
        self.asked: list[tuple[str, str]] = []
        """Each pair of texts that the judge was asked about, probes included."""
        self.responses: Iterator[str] = iter(())
        """What is said to whoever asks nothing of a judge: it makes this server a policy too."""
        self.closing = threading.Event()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_S,))

    @property
    def url(self) -> str:
        """What MEDREWARD_JUDGE_URL and MEDREWARD_EMBEDDER_URL are set to."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def say(self, prompt: str) -> str:
        """Do what the rule wants done about a prompt of the service's; else give a response."""
        fields = {name: json.loads(text) for name, text in _FIELD.findall(prompt)}
        if not fields:
            return next(self.responses)
        one, other = ("first", "second") if "first" in fields else ("candidate", "reference")
        pair = fields[one], fields[other]
        self.asked.append(pair)
        return self.rule(*pair)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A thread ends when its connection does, and the service keeps connections open.
    block_on_close = False

    def __init__(self, models: Models) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models = models


class _Handler(BaseHTTPRequestHandler):
    """Answers as an OpenAI-compatible server would."""

    server: "_Server"
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the standard library's
        """Say nothing: the tests' own output is enough."""

    def handle(self) -> None:
        # A service that is killed leaves its connections in any state.
        with suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        self._reply({"object": "list", "data": [{"id": MODEL, "owned_by": "system"}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/v1/chat/completions":
            self._judge("\n".join(message["content"] for message in asked["messages"]))
        elif self.path == "/v1/embeddings":
            texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
            rows = [{"index": n, "embedding": vector(text)} for n, text in enumerate(texts)]
            self._reply({"object": "list", "model": MODEL, "data": rows})
        else:
            self._reply({"error": {"message": "no such path"}}, 404)

    def _judge(self, prompt: str) -> None:
        said = self.server.models.say(prompt)
        if said == "silence":
            self.server.models.closing.wait()
            self.close_connection = True
        elif said in {"400", "500"}:
            self._reply({"error": {"message": "told to fail"}}, int(said))
        else:
            self._reply(_chat_reply(said))

    def _reply(self, reply: object, status: int = 200) -> None:
        body = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _chat_reply(said: str) -> object:
    likely = {"YES": {"YES": 0.9, "NO": 0.05}, "NO": {"NO": 0.9, "YES": 0.05}}
    tops = [
        {"token": token, "logprob": math.log(share)}
        for token, share in likely.get(said, {said: 0.99}).items()
    ]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": tops[0]["token"]},
        "logprobs": {"content": [{**tops[0], "top_logprobs": tops}]},
        "finish_reason": "length",
    }
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    named = {"id": "stand-in", "object": "chat.completion", "created": 0, "model": MODEL}
    return {**named, "choices": [choice], "usage": usage}


def vector(text: str) -> list[float]:
    """A vector of unit length; those of different texts point different ways."""
    noise = [byte - 127.5 for byte in shake_256(text.encode()).digest(DIMENSIONS)]
    length = math.hypot(*noise)
    return [value / length for value in noise]
