"""A judge in this process: any causal language model that transformers can load.

The verdict is read off the probabilities of the next token, not off generated text, so each
inquiry costs one forward pass and always has an answer.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from medreward.errors import JUDGE_FAILURES, DeadlinePassed, Problem, ProblemKind, SetupError
from medreward.hugging_face import loading
from medreward.judging.judge import Capacity, Inquiry, Judgement
from medreward.judging.prompt import Fence
from medreward.judging.templates import Template

T = TypeVar("T")

SHARE_OF_TIMEOUT = 0.7
"""No pass is begun later than this, so that the last one ends in time."""

PADDED_TOKENS_PER_PASS = 4096
"""Bounds the memory of a forward pass; short prompts share one, a long one goes alone."""


class CausalLmJudge:
    """Judges by the probabilities of the label forms at the verdict position."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        secret: str,
        coverage_floor: float,
        max_prompt_tokens: int = 2048,
        timeout_s: float = 120.0,
        worker: Executor,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._fence = Fence(secret=secret, special_tokens=special_tokens(tokenizer))
        self._coverage_floor = coverage_floor
        self._timeout_s = timeout_s
        self._worker = worker
        window_tokens = int(getattr(model.config, "max_position_embeddings", max_prompt_tokens))
        self._max_prompt_tokens = min(window_tokens, max_prompt_tokens)
        self._label_ids: dict[Template, list[list[int]]] = {}
        self.identity = f"causal_lm:{name}:{model.dtype}:{self._fence.identity}:{coverage_floor}"
        # Few enough that a batch of the longest prompts ends within the judge's time-out on a CPU.
        self.capacity = Capacity(batch=16)

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        name: str,
        revision: str | None = None,
        device: str = "cpu",
        secret: str = "",
        coverage_floor: float = 0.2,
        max_prompt_tokens: int = 2048,
        timeout_s: float = 120.0,
        worker: Executor,
    ) -> "CausalLmJudge":
        """Load model and tokenizer; blocks for as long as that takes."""
        # bfloat16 halves a GPU's memory; on processors without AMX it is slower than float32.
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        with loading("judge", name):
            tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
            model = AutoModelForCausalLM.from_pretrained(
                source,
                revision=revision,
                dtype=dtype,
                use_safetensors=True,  # weights in pickles could run code
            )
        model = model.to(device).eval()
        return cls(
            model,
            tokenizer,
            name=name,
            secret=secret,
            coverage_floor=coverage_floor,
            max_prompt_tokens=max_prompt_tokens,
            timeout_s=timeout_s,
            worker=worker,
        )

    def can_answer(self, template: Template) -> bool:
        """A language model understands every template whose labels its tokenizer can tell apart."""
        try:
            return bool(self._ids_of(template))
        except SetupError:
            return False

    async def start(self) -> None:
        """Nothing is left to do."""

    async def decide(self, inquiries: Sequence[Inquiry]) -> Sequence[Judgement | Problem]:
        """Judge each inquiry, off the event loop.

        Each forward pass is a task of its own for the worker, so that others get their turn, and
        what was judged before the time runs out counts.
        """
        give_up_s = time.monotonic() + SHARE_OF_TIMEOUT * self._timeout_s
        prompts = await self._in_worker(lambda: [self.prompt_ids(i) for i in inquiries])
        answers: list[Judgement | Problem] = [self._too_long(prompt) for prompt in prompts]
        fitting = [i for i, p in enumerate(prompts) if len(p) <= self._max_prompt_tokens]
        for group in _passes(fitting, prompts):
            if time.monotonic() > give_up_s:
                late = self._too_late()
                answers = [late if i in group else answer for i, answer in enumerate(answers)]
                continue
            asked = [prompts[i] for i in group]
            rows = await self._in_worker(partial(self._next_token_probabilities, asked))
            for i, row in zip(group, rows, strict=True):
                answers[i] = self._read(row, inquiries[i].template)
        return answers

    async def _in_worker(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    async def aclose(self) -> None:
        """The memory goes with the object."""

    def prompt_ids(self, inquiry: Inquiry) -> list[int]:
        """Tokenise the prompt up to the verdict position."""
        content = self._fence.render(inquiry)
        if self._tokenizer.chat_template:
            text = self._tokenizer.apply_chat_template(
                [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
            )
        else:
            text = content + "\n\n"
        text += inquiry.template.opening
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _too_long(self, prompt: list[int]) -> Problem:
        return Problem(
            ProblemKind.TOO_LONG,
            f"the judge's prompt has {len(prompt)} tokens; it reads at most {self._max_prompt_tokens}",
        )

    def _too_late(self) -> Problem:
        return JUDGE_FAILURES.problem(
            DeadlinePassed(f"its batch could not be finished within {self._timeout_s:g} s")
        )

    @torch.inference_mode()
    def _next_token_probabilities(self, prompts: list[list[int]]) -> torch.Tensor:
        """One forward pass, left-padded, the last position only: prompts x vocabulary, float32."""
        longest = max(map(len, prompts))
        ids_PT = torch.zeros((len(prompts), longest), dtype=torch.long)
        mask_PT = torch.zeros_like(ids_PT)
        for row, prompt in enumerate(prompts):
            ids_PT[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask_PT[row, longest - len(prompt) :] = 1
        # Positions start at the first real token, so padding cannot move a probability.
        positions_PT = (mask_PT.cumsum(dim=1) - 1).clamp(min=0)
        device = self._model.device
        logits_P1V: torch.Tensor = self._model(
            input_ids=ids_PT.to(device),
            attention_mask=mask_PT.to(device),
            position_ids=positions_PT.to(device),
            logits_to_keep=1,
            use_cache=False,
        ).logits
        return logits_P1V[:, -1].float().softmax(dim=-1).cpu()

    def _read(self, probabilities: torch.Tensor, template: Template) -> Judgement | Problem:
        masses = [float(probabilities[ids].sum()) for ids in self._ids_of(template)]
        coverage = sum(masses)
        if not coverage >= self._coverage_floor:
            return Problem(
                ProblemKind.JUDGE_UNPARSEABLE,
                f"{coverage:.3f} of the probability fell on {'/'.join(template.labels)}; "
                f"the floor is {self._coverage_floor}",
            )
        return Judgement(template.labels, tuple(mass / coverage for mass in masses), coverage)

    def _ids_of(self, template: Template) -> list[list[int]]:
        if template not in self._label_ids:
            self._label_ids[template] = label_ids(self._tokenizer, template)
        return self._label_ids[template]


def _passes(indices: list[int], prompts: list[list[int]]) -> Iterator[list[int]]:
    """Group prompts of like length into forward passes within the token budget."""
    group: list[int] = []
    for i in sorted(indices, key=lambda i: len(prompts[i])):
        if group and (len(group) + 1) * len(prompts[i]) > PADDED_TOKENS_PER_PASS:
            yield group
            group = []
        group.append(i)
    if group:
        yield group


def special_tokens(tokenizer: Any) -> set[str]:
    """Every string that the tokenizer reads as one special token."""
    added = (str(token) for token in tokenizer.added_tokens_decoder.values())
    return {*tokenizer.all_special_tokens, *added}


def label_ids(tokenizer: Any, template: Template) -> list[list[int]]:
    """Token ids that begin each label of *template* after its opening.

    A label counts in upper, title and lower case, with and without a leading space, by its first
    token; first tokens that two labels share tell nothing and are left out.

    Raises:
        SetupError: a label is left without a token of its own.
    """
    firsts = [_first_ids(tokenizer, template.opening, label) for label in template.labels]
    own: list[list[int]] = []
    for label, ids in zip(template.labels, firsts, strict=True):
        others = set().union(*(other for other in firsts if other is not ids))
        if not ids - others:
            raise SetupError(
                f"this judge's tokenizer cannot tell the label {label!r} of the template "
                f"{template.name!r} from the others by its first token; choose another judge model"
            )
        own.append(sorted(ids - others))
    return own


def _first_ids(tokenizer: Any, opening: str, label: str) -> set[int]:
    before: list[int] = tokenizer.encode(opening, add_special_tokens=False)
    firsts = set()
    for form in {label, label.title(), label.lower()}:
        for spaced in (form, f" {form}"):
            ids: list[int] = tokenizer.encode(opening + spaced, add_special_tokens=False)
            # A tokenizer that merges the opening with the label has no verdict position there.
            if ids[: len(before)] == before and len(ids) > len(before):
                firsts.add(ids[len(before)])
    return firsts
