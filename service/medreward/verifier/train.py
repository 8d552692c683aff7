"""Training of the embedded verifier, a small cross-encoder that learns which pairs mean the same.

The training is supervised, with cross-entropy over two labels. For each epoch but the first, more
siblings, neighbours and parents are drawn than the epoch has room for, and those with the highest
P(YES) are kept. There is no teacher model, since none is available without a hub, and no early
stopping, since the learning rate is zero after the last step.
"""

import itertools
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from medreward.audit.vocabulary import read_hpo
from medreward.verifier.evaluate import Scores, measure
from medreward.verifier.examples import Example, Mixture, epoch, held_out

LABELS = {0: "NO", 1: "YES"}
HARD = ("siblings", "neighbours", "parents")
"""Kinds of negatives of which an epoch keeps the hardest."""
NEIGHBOURS = 6
"""Similar terms that each term is paired with."""
MAX_TOKENS = 96
"""Longest pair in training; HPO has hardly any longer one."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The parameters of a run; the defaults are those of the shipped weights."""

    seed: int = 0
    epochs: int = 4
    batch: int = 64
    learning_rate: float = 2e-4
    warm_up: float = 0.06
    """Share of the steps during which the learning rate rises."""
    weight_decay: float = 0.01
    choice: int = 2
    """Candidates for each hard negative."""
    mixture: Mixture = field(default_factory=Mixture)
    limit: int | None = None
    """Most examples of an epoch, for short test runs."""
    looks: int = 12
    """Measurements on the validation pairs in a run."""


class Step(NamedTuple):
    """The progress of a run."""

    done: int
    total: int
    loss: float
    scores: Scores | None = None


Watch = Callable[[Step], None]


def train(base: Path, out: Path, plan: Plan, watch: Watch) -> Scores:
    """Train from the encoder in *base*, and write model, tokenizer and log into *out*.

    The result is deterministic for one machine and number of threads. Returns the scores on the
    validation pairs.
    """
    torch.manual_seed(plan.seed)
    tokenizer = AutoTokenizer.from_pretrained(base, use_fast=True)
    model = AutoModelForSequenceClassification.from_pretrained(
        base,
        num_labels=len(LABELS),
        id2label=LABELS,
        label2id={name: number for number, name in LABELS.items()},
        dtype=torch.float32,
    )
    neighbours = look_alikes(model.base_model, tokenizer, seed=plan.seed)
    out.mkdir(parents=True, exist_ok=True)
    scores = _fit(model, tokenizer, neighbours, plan, _Log(out / "training.jsonl", plan, watch))
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    return scores


class _Log:
    """The log of a run: its plan, then a line for each measurement on the validation pairs."""

    def __init__(self, file: Path, plan: Plan, watch: Watch) -> None:
        self._file = file
        self._watch = watch
        self._started_s = time.monotonic()
        file.write_text(json.dumps({"plan": asdict(plan)}) + "\n", "utf-8")

    def step(self, step: Step) -> None:
        """Report a step, and log it if it was measured."""
        self._watch(step)
        if step.scores is not None:
            minutes = (time.monotonic() - self._started_s) / 60
            line = {"step": step.done, "minutes": round(minutes, 1), "loss": round(step.loss, 4)}
            with self._file.open("a", encoding="utf-8") as log:
                log.write(json.dumps(line | step.scores._asdict()) + "\n")


def _fit(
    model: Any, tokenizer: Any, neighbours: Sequence[tuple[int, int]], plan: Plan, log: _Log
) -> Scores:
    validation = held_out()
    steps_an_epoch = _steps_an_epoch(plan, neighbours)
    total = plan.epochs * steps_an_epoch
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: _share_of_rate(step, total, plan.warm_up)
    )
    done, loss, smooth = 0, 0.0, 0.0
    for number in range(plan.epochs):
        drawn = _draw(model, tokenizer, neighbours, plan, number)
        for rows in itertools.islice(
            batches(drawn, tokenizer, plan.batch, seed=plan.seed + number), steps_an_epoch
        ):
            loss = _step(model, rows, optimizer)
            schedule.step()
            done += 1
            smooth = loss if done == 1 else 0.98 * smooth + 0.02 * loss
            log.step(Step(done, total, smooth))
            if done % max(1, total // plan.looks) == 0 and done < total:
                scores = measure(validation, scorer(model, tokenizer))
                log.step(Step(done, total, smooth, scores))
    scores = measure(validation, scorer(model, tokenizer))
    log.step(Step(total, total, smooth, scores))
    return scores


def _steps_an_epoch(plan: Plan, neighbours: Sequence[tuple[int, int]]) -> int:
    size = len(epoch(plan.seed, plan.mixture, neighbours))
    return min(size, plan.limit or size) // plan.batch


def _share_of_rate(step: int, total: int, warm_up: float) -> float:
    rising = max(1, round(warm_up * total))
    return min((step + 1) / rising, max(0.0, (total - step) / max(1, total - rising)))


def _step(model: Any, rows: Any, optimizer: torch.optim.Optimizer) -> float:
    model.train()
    inputs, labels = rows
    loss = cross_entropy(model(**inputs).logits, labels)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return float(loss.detach())


def _draw(
    model: Any, tokenizer: Any, neighbours: Sequence[tuple[int, int]], plan: Plan, number: int
) -> list[Example]:
    """Draw an epoch's examples; after the first, the hard kinds are those with the highest P(YES)."""
    seed = plan.seed + number
    # Before the first epoch the model has learned nothing, so its P(YES) cannot rank candidates.
    if number == 0:
        return epoch(seed, plan.mixture, neighbours)[: plan.limit]
    wanted = {kind: getattr(plan.mixture, kind) for kind in HARD}
    easy = epoch(seed, replace(plan.mixture, **dict.fromkeys(HARD, 0)), neighbours)
    none = Mixture(**dict.fromkeys(Mixture.__slots__, 0))
    many = {kind: plan.choice * count for kind, count in wanted.items()}
    candidates = epoch(seed, replace(none, **many), neighbours)[: plan.limit]
    p_yes = scorer(model, tokenizer)([(e.reference, e.answer) for e in candidates])
    order = np.argsort(-p_yes, kind="stable")[: sum(wanted.values())]
    drawn = [*easy, *(candidates[i] for i in order)]
    random.Random(seed).shuffle(drawn)  # noqa: S311 - reproducible, not secret
    return drawn[: plan.limit]


def batches(
    examples: Sequence[Example], tokenizer: Any, size: int, *, seed: int
) -> Iterator[tuple[Any, torch.Tensor]]:
    """Yield batches of pairs of similar length, in random order, so that padding stays small."""
    texts = [(e.reference, e.answer) for e in examples]
    encoded = tokenizer(texts)["input_ids"]
    rng = random.Random(seed)  # noqa: S311 - reproducible, not secret
    numbers = [n for n, ids in enumerate(encoded) if len(ids) <= MAX_TOKENS]
    numbers.sort(key=lambda n: (len(encoded[n]) + rng.random() * 4, n))
    groups = [numbers[at : at + size] for at in range(0, len(numbers), size)]
    rng.shuffle(groups)
    for group in groups:
        rows = tokenizer([texts[n] for n in group], padding=True, return_tensors="pt")
        yield dict(rows), torch.tensor([int(examples[n].equivalent) for n in group])


Scorer = Callable[[Sequence[tuple[str, str]]], np.ndarray]


def scorer(model: Any, tokenizer: Any, batch: int = 128) -> Scorer:
    """Return a function that computes P(YES) of each pair, in order, as float64."""

    @torch.inference_mode()
    def score(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        model.eval()
        order = sorted(range(len(pairs)), key=lambda n: len(pairs[n][0]) + len(pairs[n][1]))
        p_yes = np.zeros(len(pairs))
        for at in range(0, len(order), batch):
            numbers = order[at : at + batch]
            rows = tokenizer(
                [pairs[n] for n in numbers], padding=True, truncation=True, return_tensors="pt"
            )
            p_yes[numbers] = model(**rows).logits.double().softmax(-1)[:, 1].numpy()
        return p_yes

    return score


@torch.inference_mode()
def look_alikes(encoder: Any, tokenizer: Any, *, seed: int) -> list[tuple[int, int]]:
    """Pair each training term with the terms whose names have the nearest embeddings."""
    terms = [term for term in read_hpo().values() if term.split == "train"]
    vectors_TD = np.concatenate(
        [
            _embed(encoder, tokenizer, [term.name for term in terms[at : at + 256]])
            for at in range(0, len(terms), 256)
        ]
    )
    pairs = []
    for at in range(0, len(terms), 1024):
        near = vectors_TD[at : at + 1024] @ vectors_TD.T
        nearest = np.argsort(-near, axis=1, kind="stable")[:, 1 : NEIGHBOURS + 1]
        pairs += [
            (terms[at + row].number, terms[int(column)].number)
            for row, columns in enumerate(nearest)
            for column in columns
            if at + row != column
        ]
    random.Random(seed).shuffle(pairs)  # noqa: S311 - reproducible, not secret
    return pairs


def _embed(encoder: Any, tokenizer: Any, texts: list[str]) -> np.ndarray:
    """Return the mean of the last layer over each text's tokens, with norm 1, as MiniLM expects."""
    encoder.eval()
    rows = tokenizer(texts, padding=True, return_tensors="pt")
    states = encoder(**rows).last_hidden_state
    mask = rows["attention_mask"].unsqueeze(-1)
    mean = (states * mask).sum(1) / mask.sum(1)
    return torch.nn.functional.normalize(mean, dim=-1).numpy()
