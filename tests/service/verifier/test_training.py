"""Training and packing, with a model too small to learn anything."""

import json
from pathlib import Path

import numpy as np
import pytest

from medreward.engines.models import locate
from medreward.errors import SetupError
from medreward.settings import default_models_dir
from medreward.verifier.examples import Example, Mixture

pytestmark = pytest.mark.models

SMALL = Mixture(**dict.fromkeys(Mixture.__slots__, 10))
PAIRS = [("left lung", "right lung"), ("a", "a long text about nothing at all"), ("x", "y")]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one narrow layer, with the tokenizer of the real base."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = AutoTokenizer.from_pretrained(locate("all-minilm-l6-v2", default_models_dir()))
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def untrained(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same encoder under a head of random weights, as a run begins with it."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = tmp_path_factory.mktemp("untrained")
    AutoModelForSequenceClassification.from_pretrained(tiny).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_a_run_tells_of_each_step_and_leaves_an_ordinary_classifier(
    tiny: Path, untrained: Path, tmp_path: Path
) -> None:
    """A file keeps the looks at validation pairs; the weights are in bfloat16, with YES and NO."""
    import torch
    from transformers import AutoModelForSequenceClassification

    from medreward.verifier.train import CHECKPOINT, Plan, Step, train

    steps: list[Step] = []
    train(untrained, tiny, tmp_path, Plan(epochs=2, mixture=SMALL, looks=2), steps.append)
    origin, *looks = map(json.loads, (tmp_path / "training.jsonl").read_text("utf-8").splitlines())
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    told = [step.done for step in steps if step.scores is None]

    assert told == list(range(1, len(told) + 1))
    assert len(told) <= steps[-1].total
    assert origin["plan"]["epochs"] == 2
    assert len(origin["base_sha256"]) == 64
    assert looks[-1]["step"] == len(told)
    assert 0.0 <= looks[-1]["auc"] <= 1.0
    assert model.config.id2label == {0: "NO", 1: "YES"}
    assert model.config.dtype == torch.bfloat16
    assert not (tmp_path / CHECKPOINT).exists()


class Interrupted(Exception):
    """The end of a run before its time."""


@pytest.mark.slow
def test_a_run_that_was_interrupted_ends_as_if_it_had_not_been(
    tiny: Path, untrained: Path, tmp_path: Path
) -> None:
    """It continues from its checkpoint, in the middle of an epoch, to the same bytes."""
    from medreward.engines.models import sha256_of
    from medreward.verifier.train import CHECKPOINT, Plan, Step, train

    plan = Plan(epochs=2, mixture=SMALL, limit=64, batch=16, looks=1, saved_every=3)

    def interrupt(step: Step) -> None:
        if step.done == 7 and step.scores is None:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(untrained, tiny, tmp_path / "twice", plan, interrupt)
    was_saved = (tmp_path / "twice" / CHECKPOINT).is_file()
    told: list[Step] = []
    train(untrained, tiny, tmp_path / "twice", plan, told.append)
    train(untrained, tiny, tmp_path / "once", plan, lambda _: None)
    twice, once = (
        sha256_of(tmp_path / folder / "model.safetensors") for folder in ("twice", "once")
    )

    assert was_saved
    assert told[0].done == 7
    assert twice == once


def test_a_checkpoint_of_another_plan_is_refused(tmp_path: Path) -> None:
    """The message says what to do; the file is left as it is."""
    import torch

    from medreward.verifier.train import _Checkpoint

    file = tmp_path / "checkpoint.pt"
    torch.save({"origin": {"plan": {"seed": 1}}, "state": {}}, file)

    with pytest.raises(SetupError, match="of another run: choose another folder with --out"):
        _Checkpoint(file, {"plan": {"seed": 0}}).load_into(None)  # type: ignore[arg-type]
    assert file.is_file()


def test_each_pair_that_is_not_too_long_is_in_one_batch(tiny: Path) -> None:
    """Batches are full but for the last, and each label stays with its pair."""
    from transformers import AutoTokenizer

    from medreward.verifier.train import MAX_TOKENS, batches

    short = [Example("left lung", f"lung {n}", n % 2 == 0, "near") for n in range(20)]
    long = Example("lung " * MAX_TOKENS, "lung", True, "near")
    tokenizer = AutoTokenizer.from_pretrained(tiny)

    made = list(batches([*short, long], tokenizer, 8, seed=0))
    read = [
        (tokenizer.decode(ids, skip_special_tokens=True), bool(label))
        for rows, labels in made
        for ids, label in zip(rows["input_ids"], labels, strict=True)
    ]

    assert sorted(len(labels) for _, labels in made) == [4, 8, 8]
    assert sorted(read) == sorted((f"left lung lung {n}", n % 2 == 0) for n in range(20))


def test_the_order_of_pairs_changes_no_probability(untrained: Path) -> None:
    """Pairs are batched by length, and come back in the order they were given."""
    from medreward.verifier.package import load_scorer

    score = load_scorer(untrained)

    assert score(PAIRS).tolist() == pytest.approx(score(PAIRS[::-1])[::-1].tolist(), abs=1e-6)


def test_what_cannot_tell_right_from_wrong_is_not_packed(untrained: Path) -> None:
    """Without thresholds that can be certified there is no calibration, and no model to ship."""
    from medreward.verifier.package import pack

    with pytest.raises(SetupError, match="cannot be calibrated"):
        pack(untrained, "0.0", lambda pairs: np.full(len(pairs), 0.5))
