"""Runs of generation: responses of an OpenAI-compatible server, stored unchanged.

`generate` is a whole run, and `Asking.ask` the path of one question.
"""

import asyncio
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson

from medreward_client.criteria import read_criteria
from medreward_client.pauses import Pauses
from medreward_client.terminal import tell
from medreward_eval.errors import Failed
from medreward_eval.generation.model_server import (
    Away,
    Broke,
    ChatServer,
    NotAnswered,
    Refused,
    name_of,
)
from medreward_eval.journal import HEADER_KEY, QUESTIONS_KEY, Journal, Row, latest_rows
from medreward_eval.ordered_map import ordered_map
from medreward_eval.records import (
    CUT,
    Failure,
    Prediction,
    Question,
    is_cut_off,
    prediction_row,
    underscored,
)
from medreward_eval.resume import Counts, Outcome, Show, resume, see_that_same
from medreward_eval.tasks.images import data_url
from medreward_eval.tasks.question_source import QuestionSource
from medreward_eval.terminal import progress

VERSION: Final = 1
"""Version of the request's layout: the order of image and text, and the keys beside them."""
AT_ONCE: Final = 32
TRIES: Final = 3
"""Attempts that the server accepts before a question counts as one without a response."""
PAUSES: Final = Pauses(first_s=0.25, longest_s=30.0)
SAID_EVERY_S: Final = 30.0
BARREN_ROWS: Final = 32
"""After this many new questions in a row without one response, the run stops."""
STOPPED: Final = (
    f"no response to {BARREN_ROWS} questions in a row; the last: {{error.message}}. See to the "
    "server, then run this again: what there is is in the file"
)
OF_ONE_QUESTION: Final = frozenset({"context_length", "bad_image", "content_filter"})
"""Kinds of error of a single question; however many there are, the server may be well."""
ENDED: Final = frozenset(
    {
        *("stop", "stop_sequence", "stop_token", "stop_word", "end_turn", "eos", "eos_token"),
        *("complete", "completed", "done", "tool_calls", "tool_use", "function_call"),
    }
)
"""Values of `finish_reason` for a response that the model ended. After any but these and `CUT` its
text is not the model's answer: the server aborted it."""
FILTERED: Final = frozenset(
    {
        *("content_filter", "content_filtered", "guardrail_intervened", "prohibited_content"),
        *("refusal", "safety", "image_safety", "sensitive", "recitation", "blocklist", "spii"),
    }
)
"""Values of `finish_reason` for a response that a filter of the server, not the model, ended."""
THOUGHTS: Final = ("reasoning_content", "reasoning", "thinking")
"""Keys of a message for thinking that a server returns apart from the response."""
ELSEWHERE: Final = (*THOUGHTS, "reasoning_details", "thinking_blocks", "tool_calls", "refusal")
"""Keys of a message for what the model said, if `content` does not have it."""
OURS: Final = frozenset({"messages", "model", "n", "stream"})
"""Keys that `extra` must not set: the reply would be unreadable, or of another question."""
ASKED: Final = ("id", "task", "question", "reference", "template")

Say = Callable[[str], None]
"""Prints a message for the user during a run."""


@dataclass(frozen=True)
class Sampling:
    """Sampling parameters and timeouts.

    `extra` is merged into the request, such as `{"chat_template_kwargs": {...}}`, and may override
    other keys; a key whose value is None is not sent.
    """

    max_tokens: int = 2048
    temperature: float = 0.0
    top_p: float = 1.0
    system: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float = 180.0
    """Seconds for one request."""
    patience_s: float = 300.0
    """Seconds to wait for a server that is gone or accepts no requests."""

    def __post_init__(self) -> None:
        taken = sorted(OURS & self.extra.keys())
        if taken:
            raise ValueError(f"{', '.join(taken)}: not to be set, since replies depend on it")
        for name in ("timeout_s", "patience_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a number of seconds above 0")

    def header(self) -> dict[str, Any]:
        """Return the values that responses depend on, after a round trip through JSON."""
        keys = ("max_tokens", "temperature", "top_p", "system", "extra")
        told = {key: getattr(self, key) for key in keys}
        as_json: dict[str, Any] = orjson.loads(orjson.dumps(told))
        return as_json


async def generate_file(
    source: QuestionSource,
    tasks_hash: str,
    sampling: Sampling,
    *,
    server: str,
    server_key: str | None,
    model: str | None,
    out: Path | None,
    mix: bool,
    at_once: int,
) -> tuple[Counts, Path]:
    """Generate responses into a file, with a progress bar; return the counts and the file's path.

    Raises:
        BadData: a data set cannot be read, or the file holds something else.
        OtherRun: the file's lines are of other questions or another model.
        Failed: the server is gone, refuses everything, or answers nothing; finished lines are kept.
    """
    async with ChatServer(server, api_key=server_key, model=model) as chat:
        name = underscored(chat.model)
        path = out or Path("results", name, f"{name}.jsonl")
        # Data sets are read before the file is opened, so that a missing one leaves no file behind.
        total = source.count()
        header = {
            HEADER_KEY: "predictions",
            "version": VERSION,
            "model": chat.model,
            "server_model": chat.model,
            QUESTIONS_KEY: total,
            "tasks": tasks_hash,
            "sampling": sampling.header(),
        }
        with (
            Journal(path, header, mix=mix) as journal,
            progress(total, done="generated", trouble="without a response") as show,
        ):
            counts = await generate(
                source.questions, chat, journal,
                settings=sampling, say=tell, show=show, at_once=at_once,
            )  # fmt: skip
        return counts, path


async def generate(
    questions: Callable[[], Iterable[Question]],
    server: ChatServer,
    journal: Journal,
    *,
    settings: Sampling,
    say: Say,
    show: Show,
    at_once: int = AT_ONCE,
    pauses: Pauses = PAUSES,
) -> Counts:
    """Ask a model the questions without a response in the journal, and append these in order.

    *questions* must return the same ones in the same order at each call: those that an earlier run
    got no response to are asked again, after all others.

    Raises:
        OtherRun: the journal's lines are of other questions.
        Failed: the server is gone, refuses everything, or answers nothing; responses are kept.
    """
    asking = Asking(server, settings, say, pauses)

    async def ask(question: Question) -> list[Outcome]:
        prediction = await asking.ask(question)
        error = prediction.error
        is_barren = error is not None and error.kind not in OF_ONE_QUESTION
        return [Outcome(prediction.id, prediction_row(prediction), error, is_barren)]

    return await resume(
        journal,
        questions,
        lambda asked: ordered_map(ask, asked, at_once=at_once),
        partial(_failure_in, journal),
        show=show,
        most_barren=BARREN_ROWS,
        stopped=STOPPED,
    )


def _failure_in(journal: Journal, row: Row, question: Question) -> str | None:
    differing = [key for key in ASKED if row.get(key) != getattr(question, key)]
    if tuple(row.get("options", ())) != question.options:
        differing.append("options")
    if read_criteria(row.get("criteria")) != question.criteria:
        differing.append("criteria")
    see_that_same(differing, question, journal)
    if row.get("response") is not None:
        return None
    return str((row.get("error") or {}).get("kind"))


class Asking:
    """The retry loop of questions to a server, whose availability is tracked for all of them."""

    def __init__(
        self, server: ChatServer, settings: Sampling, say: Say, pauses: Pauses = PAUSES
    ) -> None:
        self._server = server
        self._settings = settings
        self._say = say
        self._pauses = pauses
        self._answered_at = self._said_at = -math.inf

    async def ask(self, question: Question) -> Prediction:
        """Ask one question, with retries, and return its response or its error.

        Raises:
            Failed: the server is gone, or refuses everything.
        """
        if question.trouble is not None:
            return _without_response(question, question.trouble)
        try:
            body = request_body(question, self._server.model, self._settings)
            reply = await self._reply_to(body)
            return read_reply(question, reply)
        except NotAnswered as exc:
            return _without_response(question, exc.trouble)

    async def _reply_to(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request up to `TRIES` times; a server that is away is waited for `patience_s`."""
        time = asyncio.get_running_loop().time
        tries = pauses = 0
        away_since: float | None = None
        while True:
            try:
                reply = await self._server.complete(body, timeout_s=self._settings.timeout_s)
            except Broke:
                tries += 1
                away_since = None
                if tries == TRIES:
                    raise
                pause_s = drawn(self._pauses, tries)
            except Away as away:
                away_since = time() if away_since is None else away_since
                pauses += 1
                pause_s = self._wait_for(away, away_since, pauses, time())
            else:
                self._answered_at = time()
                return reply
            await asyncio.sleep(pause_s)

    def _wait_for(self, away: Away, since: float, pauses: int, now: float) -> float:
        """Return the seconds until the next attempt.

        If `patience_s` is over and other questions were answered meanwhile, this question has
        failed; otherwise the run has.
        """
        left_s = since + self._settings.patience_s - now
        if left_s <= 0 and self._answered_at > since:
            raise away
        if left_s <= 0:
            raise Failed(
                f"{away}, for {self._settings.patience_s:g} s now; what there is is in the file: "
                "start the server, then run this again"
            ) from away
        if now - self._said_at >= SAID_EVERY_S:
            self._said_at = now
            self._say(f"{away}; waiting for it, {left_s:.0f} s at most")
        return min(max(away.retry_after_s, drawn(self._pauses, pauses)), left_s)


def drawn(pauses: Pauses, attempt: int) -> float:
    """Draw the seconds to wait after an attempt: between half the pause's bound and the bound.

    The jitter spreads the retries of requests that failed at the same moment.
    """
    most_s = pauses.doubled(attempt)
    return random.uniform(most_s / 2, most_s)  # noqa: S311 - no secret


def request_body(question: Question, model: str, settings: Sampling) -> dict[str, Any]:
    """Build the body of a request: the image, if there is one, then the text.

    Raises:
        Refused: the image's format cannot be sent.
    """
    system = [] if settings.system is None else [{"role": "system", "content": settings.system}]
    body = {
        "model": model,
        "messages": [*system, {"role": "user", "content": _content(question)}],
        "max_tokens": settings.max_tokens,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        **settings.extra,
    }
    return {key: value for key, value in body.items() if value is not None}


def _content(question: Question) -> str | list[dict[str, Any]]:
    if question.image is None:
        return question.question
    try:
        url = data_url(question.image)
    except ValueError as exc:
        raise Refused("bad_image", f"the image of {question.id!r} is {exc}") from exc
    return [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": question.question},
    ]


def read_reply(question: Question, reply: Mapping[str, Any]) -> Prediction:
    """Parse a server's reply; the response and its thinking are kept unchanged.

    A model that was cut off while thinking, returned apart, has an empty response. Any other reply
    without a text is an error, and so is an empty text beside which the model said something: the
    server may have put the answer there.
    """
    choices = reply.get("choices")
    choice = _object(choices[0] if isinstance(choices, list) and choices else None)
    message = _object(choice.get("message"))
    response = message.get("content")
    thoughts = (message.get(key) for key in THOUGHTS)
    told = replace(
        _without_response(question),
        finish_reason=name_of(choice.get("finish_reason")),
        reasoning=next((text for text in thoughts if isinstance(text, str) and text), None),
    )
    error = _error_in(message, told)
    if error is not None:
        return replace(told, error=error)
    return replace(told, response=response if isinstance(response, str) else "")


def _error_in(message: Mapping[str, Any], told: Prediction) -> Failure | None:
    """Return the reason why a reply's message is no response; *told* is the rest of the reply."""
    reason = (told.finish_reason or "stop").lower()
    ended = f" (finish_reason {told.finish_reason})" if told.finish_reason else ""
    if reason in FILTERED:
        return Failure("content_filter", f"the server's content filter ended the response{ended}")
    if reason not in ENDED | CUT:
        return Failure("broken_off", f"the server broke off{ended}", retryable=True)
    content = message.get("content")
    text = content.strip() if isinstance(content, str) else None
    if text or (told.reasoning and reason in CUT):
        return None
    elsewhere = next((key for key in ELSEWHERE if message.get(key)), None)
    if elsewhere is not None:
        return Failure(
            "no_response",
            f"the server's reply has `{elsewhere}` and no text in `content`{ended}: see to its "
            "parsers (vLLM's --reasoning-parser, --tool-call-parser), or turn thinking off",
        )
    if text is not None:
        return None
    return Failure("no_response", f"the server's reply has no text{ended}")


def shortfalls(path: Path) -> dict[str, int]:
    """Count the responses of a file that are empty, and those that were cut off."""
    told = Counter[str]()
    for row in latest_rows(path):
        response = row.get("response")
        if isinstance(response, str):
            told["empty"] += not response.strip()
            told["cut off at max_tokens"] += is_cut_off(row.get("finish_reason"))
    return {name: count for name, count in told.items() if count}


def _without_response(question: Question, error: Failure | None = None) -> Prediction:
    return Prediction(
        id=question.id,
        task=question.task,
        question=question.question,
        reference=question.reference,
        response=None,
        template=question.template,
        options=question.options,
        criteria=question.criteria,
        error=error,
    )


def _object(told: object) -> Mapping[str, Any]:
    return told if isinstance(told, dict) else {}
