"""A judge in this process that compares two texts: any sequence classifier of transformers.

Its input has no instructions, so it only answers templates about the equivalence of two texts.
"""

import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from medreward.engines.capacity import Capacity, Resident
from medreward.engines.judge import Inquiry, Judgement, View
from medreward.engines.local.bucketing import by_length
from medreward.engines.local.loading import loading
from medreward.engines.local.worker import ForwardPass, ModelThread
from medreward.engines.prompts.tokenization import can_read, known_characters
from medreward.engines.templates import Template
from medreward.errors import Problem, ProblemKind, SetupError

TEMPLATES = ("equivalence", "match")
"""The templates about the equivalence of two texts."""

POSITIVE_LABELS = ("yes", "equivalent", "entailment", "paraphrase", "duplicate", "same", "match")
"""Names that classifiers have for their positive label."""

PAIR_VERSION = 1
"""To be raised with every change of `text_pair`, so that cached judgements are not reused."""

PAIRS_PER_PASS = 32
PADDED_TOKENS_PER_PASS = 512


class CrossEncoderJudge(Resident):
    """Judges by the probability of the label that stands for YES."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        positive_label: str | None = None,
        max_tokens: int = 2048,
        timeout_s: float = 120.0,
        worker: Executor,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._model_thread = ModelThread(worker, timeout_s=timeout_s)
        self.characters = known_characters(tokenizer)
        self._positive = _positive_index(model.config, positive_label)
        self._max_tokens = min(_window_tokens(model), tokenizer.model_max_length, max_tokens)
        self.identity = f"cross_encoder:{name}:{model.dtype}:{self._positive}:{PAIR_VERSION}"
        self.capacity = Capacity(batch=64)

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        name: str,
        revision: str | None = None,
        device: str = "cpu",
        positive_label: str | None = None,
        max_tokens: int = 2048,
        timeout_s: float = 120.0,
        worker: Executor,
    ) -> "CrossEncoderJudge":
        """Load model and tokenizer; blocks for as long as that takes.

        Raises:
            SetupError: it cannot be loaded, is not a classifier, or has no label that means YES.
        """
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        with loading("judge", name):
            tokenizer = AutoTokenizer.from_pretrained(
                source,
                revision=revision,
                # A separator that an answer spells out is text, not a separator.
                split_special_tokens=True,
            )
            model, report = AutoModelForSequenceClassification.from_pretrained(
                source,
                revision=revision,
                dtype=dtype,
                use_safetensors=True,  # weights in pickles could run code
                output_loading_info=True,
            )
        if report["missing_keys"]:
            raise SetupError(
                f"the judge {name!r} is no classifier: it has no weights for "
                f"{', '.join(sorted(report['missing_keys']))}; choose another MEDREWARD_JUDGE_MODEL"
            )
        return cls(
            model.to(device).eval(),
            _padding(tokenizer, model),
            name=name,
            positive_label=positive_label,
            max_tokens=max_tokens,
            timeout_s=timeout_s,
            worker=worker,
        )

    def can_answer(self, template: Template) -> bool:
        """Return True for templates that compare two texts, without a criterion or a scale."""
        return template.name in TEMPLATES

    def can_read(self, text: str) -> bool:
        """Return False if the tokenizer would make unknown tokens of most of a text."""
        return can_read(text, self.characters)

    async def decide(self, inquiries: Sequence[Inquiry]) -> Sequence[Judgement | Problem]:
        """Judge each inquiry off the event loop; a pair over the window is a problem, never truncated."""
        give_up_s = self._model_thread.give_up_s()
        pairs = await self._model_thread.take(lambda: [self._encoded(i) for i in inquiries])
        judged = await self._model_thread.judge(
            self._plan(pairs), lambda i, row: self._read(row, inquiries[i].template), give_up_s
        )
        return [judged.get(i) or self._too_long(_length(pair)) for i, pair in enumerate(pairs)]

    def _encoded(self, inquiry: Inquiry) -> Mapping[str, list[int]]:
        encoded: Mapping[str, list[int]] = self._tokenizer(*text_pair(inquiry), truncation=False)
        return encoded

    def _plan(self, pairs: Sequence[Mapping[str, list[int]]]) -> list[ForwardPass]:
        lengths = {i: _length(p) for i, p in enumerate(pairs) if _length(p) <= self._max_tokens}
        groups = by_length(lengths, max_tokens=PADDED_TOKENS_PER_PASS, max_texts=PAIRS_PER_PASS)
        return [
            ForwardPass(
                group, sum(lengths[i] for i in group), partial(self._run, [pairs[i] for i in group])
            )
            for group in groups
        ]

    @torch.inference_mode()
    def _run(self, pairs: Sequence[Mapping[str, list[int]]]) -> torch.Tensor:
        """Run one forward pass; return the probability of YES for each pair, in float64."""
        padded = self._tokenizer.pad(pairs, return_tensors="pt").to(self._model.device)
        logits: torch.Tensor = self._model(**padded).logits.double()
        if logits.shape[-1] == 1:
            return logits[:, 0].sigmoid()
        return logits.softmax(dim=-1)[:, self._positive]

    def _read(self, p_yes: torch.Tensor, template: Template) -> Judgement:
        yes = float(p_yes)
        by_label = {"YES": yes, "NO": 1.0 - yes}
        return Judgement(template.labels, tuple(by_label[label] for label in template.labels))

    def _too_long(self, tokens: int) -> Problem:
        return Problem(
            ProblemKind.TOO_LONG,
            f"the judge's pair has {tokens} tokens; it reads at most {self._max_tokens}",
        )


def text_pair(inquiry: Inquiry) -> tuple[str, str]:
    """Build the pair of an inquiry: the reference, after the question if shown, and the answer."""
    reference = "\n".join(text for text in (inquiry.shown_question, inquiry.reference) if text)
    pair = (reference, inquiry.answer)
    return (pair[1], pair[0]) if inquiry.view is View.SWAPPED else pair


def _length(pair: Mapping[str, list[int]]) -> int:
    return len(pair["input_ids"])


def _positive_index(config: Any, positive_label: str | None) -> int:
    """Find the label that stands for YES.

    Raises:
        SetupError: no label or several mean YES, or the labels do not exclude one another.
    """
    names: dict[int, str] = {index: str(label) for index, label in config.id2label.items()}
    if config.problem_type == "multi_label_classification" and len(names) > 1:
        raise SetupError("the judge's labels do not exclude one another; choose another model")
    if len(names) == 1:
        return 0
    wanted = POSITIVE_LABELS if positive_label is None else (positive_label.casefold(),)
    found = [index for index, label in names.items() if label.casefold() in wanted]
    if len(found) != 1:
        raise SetupError(
            f"which of the judge's labels means YES? It has {', '.join(names.values())}; "
            "name one in MEDREWARD_JUDGE_POSITIVE_LABEL"
        )
    return found[0]


def _window_tokens(model: Any) -> int:
    """Count the positions of the model; the RoBERTa family reserves the first few."""
    window = int(getattr(model.config, "max_position_embeddings", None) or sys.maxsize)
    tables = (m for name, m in model.named_modules() if name.endswith("position_embeddings"))
    padding: int | None = getattr(next(tables, None), "padding_idx", None)
    return window if padding is None else window - padding - 1


def _padding(tokenizer: Any, model: Any) -> Any:
    """Set the padding token that language models with a classifying head lack."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    return tokenizer
