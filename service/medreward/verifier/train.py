"""Training of the embedded verifier, a small cross-encoder that learns which pairs mean the same.

The training is supervised, with cross-entropy over two labels. It continues from a trained
classifier. For each epoch, more siblings, neighbours and parents are drawn than the epoch has room
for, and those with the highest P(YES) are kept. There is no teacher model, since none is available
without a hub, and no early stopping, since the learning rate is zero after the last step.

A run that was interrupted continues from its last checkpoint, and ends with the weights that it
would have had without the interruption.
"""

import itertools
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from medreward.audit.vocabulary import read_hpo
from medreward.engines.models import sha256_of
from medreward.errors import SetupError
from medreward.verifier.evaluate import Scores, measure
from medreward.verifier.examples import Example, Mixture, epoch, held_out

LABELS = {0: "NO", 1: "YES"}
HARD = ("siblings", "neighbours", "parents")
"""Kinds of negatives of which an epoch keeps the hardest."""
NEIGHBOURS = 6
"""Similar terms that each term is paired with."""
MAX_TOKENS = 128
"""Longest pair in training; a longer one is left out."""
LOOK_SIZE = 200
"""Validation pairs of each kind that a run is measured on."""
CHECKPOINT, LOG = "checkpoint.pt", "training.jsonl"


@dataclass(frozen=True, slots=True)
class Plan:
    """The parameters of a run; the defaults are those of the shipped weights."""

    seed: int = 0
    epochs: int = 2
    batch: int = 32
    learning_rate: float = 1e-4
    warm_up: float = 0.06
    """Share of the steps during which the learning rate rises."""
    weight_decay: float = 0.01
    choice: int = 2
    """Candidates for each hard negative."""
    mixture: Mixture = field(default_factory=Mixture)
    limit: int | None = None
    """Most examples of an epoch, for short test runs."""
    looks: int = 4
    """Measurements on the validation pairs in a run."""
    saved_every: int = 100
    """Steps between two checkpoints."""


class Step(NamedTuple):
    """The progress of a run."""

    done: int
    total: int
    loss: float
    scores: Scores | None = None


Watch = Callable[[Step], None]


def train(base: Path, encoder: Path, out: Path, plan: Plan, watch: Watch) -> Scores:
    """Train from the classifier in *base*, and write model, tokenizer and log into *out*.

    The sentence encoder finds similar terms. The result is deterministic for one machine and number
    of threads; *out* may hold a checkpoint of the same plan and base. Returns the scores on the
    validation pairs.

    Raises:
        SetupError: *out* holds a checkpoint of another run.
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
    neighbours = look_alikes(
        AutoModel.from_pretrained(encoder, dtype=torch.float32),
        AutoTokenizer.from_pretrained(encoder, use_fast=True),
        seed=plan.seed,
    )
    out.mkdir(parents=True, exist_ok=True)
    # JSON makes lists of tuples, so that what is compared with a checkpoint is of one form.
    origin = json.loads(json.dumps({"base_sha256": _weights_sha256(base), "plan": asdict(plan)}))
    run = _Run(model, tokenizer, plan, neighbours)
    log = _Log(out / LOG, origin, watch)
    scores = _fit(run, log, _Checkpoint(out / CHECKPOINT, origin))
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / CHECKPOINT).unlink(missing_ok=True)
    return scores


def _weights_sha256(base: Path) -> str:
    return sha256_of(next(file for file in sorted(base.iterdir()) if file.suffix == ".safetensors"))


class _Log:
    """The log of a run: its origin and plan, then a line for each look at the validation pairs."""

    def __init__(self, file: Path, origin: Mapping[str, Any], watch: Watch) -> None:
        self._file = file
        self._origin = origin
        self._watch = watch

    def begin(self, run: "_Run") -> None:
        """Write what the run has logged so far, which is only its origin if it is new."""
        lines = [self._origin, *run.lines]
        self._file.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")

    def step(self, run: "_Run", total: int, scores: Scores | None = None) -> None:
        """Report a step, and log it if it was measured."""
        self._watch(Step(run.done, total, run.loss, scores))
        if scores is not None:
            line = {"step": run.done, "minutes": round(run.minutes(), 1), "loss": run.loss}
            run.lines.append(line | scores._asdict())
            self.begin(run)


class _Run:
    """A model in training, and all that decides how it goes on."""

    def __init__(
        self, model: Any, tokenizer: Any, plan: Plan, neighbours: Sequence[tuple[int, int]]
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.plan = plan
        self.neighbours = neighbours
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay, fused=True
        )
        self.epoch = 0
        self.at = 0
        """Steps of the epoch that are done."""
        self.done = 0
        """Steps of the run that are done."""
        self.loss = 0.0
        """Mean of the last steps."""
        self.drawn: list[Example] = []
        """The epoch at hand; it was drawn by an earlier state of the model."""
        self.lines: list[dict[str, Any]] = []
        self._started_s = time.monotonic()
        self._minutes_before = 0.0

    def minutes(self) -> float:
        """Return how long the run has taken, without its interruptions."""
        return self._minutes_before + (time.monotonic() - self._started_s) / 60

    def state(self) -> dict[str, Any]:
        """Return everything that an interrupted run needs to continue."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "at": self.at,
            "done": self.done,
            "loss": self.loss,
            "drawn": [tuple(example) for example in self.drawn],
            "lines": self.lines,
            "minutes": self.minutes(),
            # Dropout draws from it.
            "random": torch.get_rng_state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from the state of an interrupted run."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.at, self.done = state["epoch"], state["at"], state["done"]
        self.loss = state["loss"]
        self.drawn = [Example(*fields) for fields in state["drawn"]]
        self.lines = state["lines"]
        self._minutes_before = state["minutes"]
        torch.set_rng_state(state["random"])

    def step(self, rows: tuple[Any, torch.Tensor], rate: float) -> None:
        """Learn from one batch at a share of the learning rate."""
        inputs, labels = rows
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = rate * self.plan.learning_rate
        loss = cross_entropy(self.model(**inputs).logits, labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        last = float(loss.detach())
        self.loss = last if self.done == 0 else 0.98 * self.loss + 0.02 * last
        self.done += 1
        self.at += 1


class _Checkpoint:
    """The file that an interrupted run continues from."""

    def __init__(self, file: Path, origin: Mapping[str, Any]) -> None:
        self._file = file
        self._origin = origin

    def load_into(self, run: _Run) -> None:
        """Restore the state of the same run, if there is one.

        Raises:
            SetupError: the file is of another plan or another base.
        """
        if not self._file.is_file():
            return
        saved = torch.load(self._file, weights_only=True)
        if saved["origin"] != self._origin:
            raise SetupError(
                f"{self._file} is of another run: choose another folder with --out, or delete it"
            )
        run.restore(saved["state"])

    def save(self, run: _Run) -> None:
        """Write the state; an interruption leaves the file before it whole."""
        new = self._file.with_suffix(".new")
        torch.save({"origin": self._origin, "state": run.state()}, new)
        new.replace(self._file)


def _fit(run: _Run, log: _Log, checkpoint: _Checkpoint) -> Scores:
    plan = run.plan
    validation = held_out(size=LOOK_SIZE)
    steps_an_epoch = min(sum(asdict(plan.mixture).values()), plan.limit or 10**9) // plan.batch
    # An epoch is shorter by the pairs that are too long.
    total = plan.epochs * steps_an_epoch
    checkpoint.load_into(run)
    log.begin(run)
    while run.epoch < plan.epochs:
        if run.at == 0:
            run.drawn = _draw(run)
        rows = batches(run.drawn, run.tokenizer, plan.batch, seed=plan.seed + run.epoch)
        for batch in itertools.islice(rows, run.at, steps_an_epoch):
            run.step(batch, _share_of_rate(run.done, total, plan.warm_up))
            log.step(run, total)
            if run.done % max(1, total // plan.looks) == 0 and run.done < total:
                log.step(run, total, measure(validation, scorer(run.model, run.tokenizer)))
            if run.done % plan.saved_every == 0:
                checkpoint.save(run)
        run.epoch, run.at = run.epoch + 1, 0
    scores = measure(validation, scorer(run.model, run.tokenizer))
    log.step(run, total, scores)
    return scores


def _share_of_rate(step: int, total: int, warm_up: float) -> float:
    rising = max(1, round(warm_up * total))
    return min((step + 1) / rising, max(0.0, (total - step) / max(1, total - rising)))


def _draw(run: _Run) -> list[Example]:
    """Draw an epoch's examples; of the hard kinds those with the highest P(YES)."""
    plan = run.plan
    seed = plan.seed + run.epoch
    wanted = {kind: getattr(plan.mixture, kind) for kind in HARD}
    easy = epoch(seed, replace(plan.mixture, **dict.fromkeys(HARD, 0)), run.neighbours)
    none = Mixture(**dict.fromkeys(Mixture.__slots__, 0))
    many = {kind: plan.choice * count for kind, count in wanted.items()}
    candidates = epoch(seed, replace(none, **many), run.neighbours)[: plan.limit]
    p_yes = scorer(run.model, run.tokenizer)([(e.reference, e.answer) for e in candidates])
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
