"""Training and packing, with a model too small to learn anything."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertModel

from medreward.engines.models import locate
from medreward.errors import SetupError
from medreward.settings import default_models_dir
from medreward.verifier.examples import Mixture
from medreward.verifier.package import load_scorer, pack
from medreward.verifier.train import Plan, Step, scorer, train

pytestmark = pytest.mark.models

FEW = Mixture(**dict.fromkeys(Mixture.__slots__, 40))
PAIRS = [("left lung", "right lung"), ("a", "a long text about nothing at all"), ("x", "y")]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one narrow layer, with the tokenizer of the real base."""
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
def steps() -> list[Step]:
    """What a run tells of itself."""
    return []


@pytest.fixture(scope="module")
def trained(tiny: Path, steps: list[Step], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two short epochs make of it."""
    out = tmp_path_factory.mktemp("trained")
    train(tiny, out, Plan(epochs=2, mixture=FEW, looks=2), steps.append)
    return out


def test_a_run_tells_of_each_step_and_of_what_it_is_worth(trained: Path, steps: list[Step]) -> None:
    """Steps are counted to the end, and the looks at validation pairs are kept in a file."""
    total = steps[-1].total
    plan, *looks = map(json.loads, (trained / "training.jsonl").read_text("utf-8").splitlines())

    assert [step.done for step in steps if step.scores is None] == list(range(1, total + 1))
    assert plan["plan"]["epochs"] == 2
    assert looks[-1]["step"] == total
    assert 0.0 <= looks[-1]["auc"] <= 1.0


def test_the_model_loads_as_any_classifier_and_names_its_labels(trained: Path) -> None:
    """What is written is an ordinary folder, in bfloat16, with YES and NO."""
    model = AutoModelForSequenceClassification.from_pretrained(trained)

    assert model.config.id2label == {0: "NO", 1: "YES"}
    assert model.config.dtype == torch.bfloat16


def test_the_order_of_pairs_changes_no_probability(trained: Path) -> None:
    """Pairs are batched by length, and come back in the order they were given."""
    score = load_scorer(trained)

    assert score(PAIRS).tolist() == pytest.approx(score(PAIRS[::-1])[::-1].tolist(), abs=1e-6)


def test_what_cannot_tell_right_from_wrong_is_not_packed(trained: Path) -> None:
    """Without thresholds that can be certified there is no calibration, and no model to ship."""
    model = AutoModelForSequenceClassification.from_pretrained(trained, dtype=torch.float32)
    with torch.no_grad():
        model.classifier.weight.zero_()
    tokenizer = AutoTokenizer.from_pretrained(trained)

    with pytest.raises(SetupError, match="cannot be calibrated"):
        pack(trained, "0.0", scorer(model, tokenizer))
