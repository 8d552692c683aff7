"""A judge behind any server that speaks OpenAI's chat protocol: vLLM, SGLang, llama.cpp, hosted ones.

One token is asked for, with the probabilities of the likeliest ones.
"""

import asyncio
import math
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

from medreward._http import REFUSAL_STATUS, AsyncBaseTransport, Response, json_of, reaching, server
from medreward.errors import (
    JUDGE_FAILURES,
    EngineError,
    NonsenseReply,
    Problem,
    ProblemKind,
)
from medreward.judging.judge import Capacity, Inquiry, Judgement
from medreward.judging.prompt import Fence
from medreward.judging.templates import Template

REQUESTS_IN_FLIGHT = 16
TOP_LOGPROBS = 20
MAX_COVERAGE = 1.01


class OpenAiJudge:
    """Asks a server for the first token of its verdict."""

    def __init__(
        self,
        url: str,
        *,
        model: str,
        revision: str | None = None,
        api_key: str | None = None,
        secret: str = "",
        coverage_floor: float = 0.2,
        timeout_s: float = 60.0,
        transport: AsyncBaseTransport | None = None,
    ) -> None:
        self._model = model
        self._fence = Fence(secret=secret, special_tokens=COMMON_SPECIAL_TOKENS)
        self._coverage_floor = coverage_floor
        self._http = server(url, api_key=api_key, timeout_s=timeout_s, transport=transport)
        name = f"{model}@{revision or 'default'}"
        self.identity = f"openai:{name}:{self._fence.identity}:{coverage_floor}"
        # Each inquiry is a request of its own, so a slow one holds up no other's answer.
        self.capacity = Capacity(batch=1, concurrency=REQUESTS_IN_FLIGHT)

    def can_answer(self, template: Template) -> bool:
        """A chat model understands every template."""
        return bool(template.labels)

    async def start(self) -> None:
        """Nothing is left to do."""

    async def decide(self, inquiries: Sequence[Inquiry]) -> Sequence[Judgement | Problem]:
        """Judge each inquiry; each has its own request, so each has its own trouble."""
        return await asyncio.gather(*(self._decide_one(inquiry) for inquiry in inquiries))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _decide_one(self, inquiry: Inquiry) -> Judgement | Problem:
        try:
            choice = await self._ask(inquiry)
        except EngineError as exc:
            return JUDGE_FAILURES.problem(exc)
        return choice if isinstance(choice, Problem) else self._read(choice, inquiry.template)

    async def _ask(self, inquiry: Inquiry) -> dict[str, Any] | Problem:
        with reaching():
            response = await self._http.post("chat/completions", json=self._body(inquiry))
        if response.status_code in REFUSAL_STATUS:
            return _refusal(response)
        match json_of(response):
            case {"choices": [dict(choice), *_]}:
                return choice
            case _:
                raise NonsenseReply("the server's reply holds no choice")

    def _body(self, inquiry: Inquiry) -> dict[str, Any]:
        return {
            "model": self._model,
            "messages": [{"role": "user", "content": self._fence.render(inquiry)}],
            "temperature": 0,
            "max_tokens": 1,
            "logprobs": True,
            "top_logprobs": TOP_LOGPROBS,
        }

    def _read(self, choice: dict[str, Any], template: Template) -> Judgement | Problem:
        if choice.get("finish_reason") == "content_filter":
            return Problem(ProblemKind.JUDGE_REFUSED, "judge: the server filtered its reply")
        try:
            tokens = choice["logprobs"]["content"][0]["top_logprobs"]
            pairs = [(str(token["token"]), math.exp(float(token["logprob"]))) for token in tokens]
        except (KeyError, IndexError, TypeError, ValueError, OverflowError):
            return Problem(
                ProblemKind.JUDGE_UNPARSEABLE, "judge: the reply holds no token probabilities"
            )
        return self._weigh(pairs, template)

    def _weigh(self, pairs: Iterable[tuple[str, float]], template: Template) -> Judgement | Problem:
        masses = dict.fromkeys(template.labels, 0.0)
        for token, probability in pairs:
            label = label_begun_by(token, template.labels)
            if label is not None:
                masses[label] += probability
        coverage = math.fsum(masses.values())
        # Servers round log-probabilities, so a sum may come out a little over 1.
        if not self._coverage_floor <= coverage <= MAX_COVERAGE or coverage == 0:
            return Problem(
                ProblemKind.JUDGE_UNPARSEABLE,
                f"judge: {coverage:.3f} of the probability fell on {'/'.join(template.labels)}; "
                f"the floor is {self._coverage_floor}",
            )
        shares = tuple(mass / coverage for mass in masses.values())
        return Judgement(template.labels, shares, min(1.0, coverage))


def _refusal(response: Response) -> Problem:
    """Tell why a server refuses one prompt; its reply is looked at, but not repeated."""
    said = response.text.casefold()
    is_long = response.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or any(
        sign in said for sign in ("context length", "context_length", "too long", "maximum")
    )
    kind = ProblemKind.TOO_LONG if is_long else ProblemKind.JUDGE_REFUSED
    return Problem(kind, f"judge: the server refuses this prompt ({response.status_code})")


def label_begun_by(token: str, labels: Sequence[str]) -> str | None:
    """Give the one label that *token* is the beginning of, in any case; None where none or several."""
    begun = token.strip().upper()
    fitting = [label for label in labels if begun and label.startswith(begun)]
    return fitting[0] if len(fitting) == 1 else None


COMMON_SPECIAL_TOKENS = (
    # The server's tokenizer is not at hand, so the marks of the usual families are broken up. Most
    # are written between bars, and what begins so means nothing else in medical text.
    # ruff: noqa: RUF001 - DeepSeek writes its marks with full-width bars
    *("<|", "<｜"),
    *("<s>", "</s>", "<bos>", "<eos>", "<pad>", "<unk>", "<mask>", "<BOS_TOKEN>", "<EOS_TOKEN>"),
    *("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "<<SYS>>", "<</SYS>>"),
    *("[AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[IMG]", "[IMG_BREAK]", "[IMG_END]"),
    *("[CLS]", "[SEP]", "[MASK]", "[PAD]", "[UNK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>"),
    *("<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>", "<image>"),
    *("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"),
)
