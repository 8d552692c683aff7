"""The cross-encoder judge: any sequence classifier, here small ones with random weights."""

import json
import string
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from medreward.engines.calibration import Calibration
from medreward.engines.judge import Inquiry, Judge, Judgement, View, is_sound
from medreward.engines.models import CALIBRATION, MANIFEST
from medreward.engines.registry import BuildContext, build_judge
from medreward.engines.templates import Template, load_templates
from medreward.errors import Problem, ProblemKind, SetupError
from medreward.settings import Settings
from tests.conftest import Serve
from tests.support.calibration import entry
from tests.support.problems import judgement, problem

if TYPE_CHECKING:
    from medreward.engines.judges.cross_encoder import CrossEncoderJudge

pytestmark = pytest.mark.xdist_group("models")

TEMPLATES = load_templates()
MATCH, EQUIVALENCE = TEMPLATES["match"], TEMPLATES["equivalence"]
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
VOCABULARY = {word: i for i, word in enumerate([*SPECIALS, *string.printable])}
NLI = {0: "contradiction", 1: "entailment", 2: "neutral"}
SMALL = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 66,
    "initializer_range": 0.5,
    "pad_token_id": 0,
}
INQUIRIES = [
    Inquiry(template, answer, reference, "Where?", view=view)
    for template in (MATCH, EQUIVALENCE)
    for view in View
    for answer, reference in [("left", "left lobe"), ("no", "yes"), ("a mass of 5 mm", "tumour")]
]


def save_tokenizer(folder: Path) -> None:
    """A tokenizer of characters that puts pairs together as BERT's does."""
    from transformers import PreTrainedTokenizerFast

    letters = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    letters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    letters.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    PreTrainedTokenizerFast(
        tokenizer_object=letters,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    ).save_pretrained(folder)


def save(folder: Path, labels: dict[int, str] | None = None, **config: Any) -> Path:
    """A classifier with these labels, in a folder as a hub has it."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(1)
    named = {"id2label": labels or {0: "LABEL_0"}, **SMALL, **config}
    BertForSequenceClassification(BertConfig(**named)).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def load(folder: Path, worker: Executor, **options: Any) -> "CrossEncoderJudge":
    """Load what was saved in a folder."""
    from medreward.engines.judges.cross_encoder import CrossEncoderJudge

    return CrossEncoderJudge.load(folder, name="small", worker=worker, **options)


@pytest.fixture(scope="module")
def worker() -> Iterator[Executor]:
    """The thread that models run on."""
    with ThreadPoolExecutor(max_workers=1) as worker:
        yield worker


@pytest.fixture
def judge(tmp_path: Path, worker: Executor) -> "CrossEncoderJudge":
    """A judge with one logit."""
    return load(save(tmp_path), worker)


async def p_yes_of(judge: "CrossEncoderJudge", inquiries: list[Inquiry]) -> list[float]:
    """P(YES) of each, where every inquiry has an answer."""
    answers = await judge.decide(inquiries)
    assert all(isinstance(answer, Judgement) for answer in answers)
    assert all(
        is_sound(a, i) for a, i in zip(answers, inquiries, strict=True) if isinstance(a, Judgement)
    )
    return [answer.p_yes for answer in answers if isinstance(answer, Judgement)]


@pytest.mark.anyio
@pytest.mark.parametrize("labels", [None, NLI, {0: "NO", 1: "YES"}])
async def test_p_yes_is_what_transformers_says(
    tmp_path: Path, worker: Executor, labels: dict[int, str] | None
) -> None:
    """One logit through the sigmoid, several through the softmax, whatever the batch."""
    import torch
    from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

    from medreward.engines.judges.cross_encoder import text_pair

    judge = load(save(tmp_path, labels), worker)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()

    def alone(inquiry: Inquiry) -> float:
        with torch.inference_mode():
            logits = model(**tokenizer(*text_pair(inquiry), return_tensors="pt")).logits[0]
        return float(logits.softmax(-1)[1] if labels else logits.sigmoid()[0])

    together = await p_yes_of(judge, INQUIRIES)

    assert together == pytest.approx([alone(i) for i in INQUIRIES], abs=1e-5)
    assert len({round(p, 3) for p in together}) > 5, "random weights tell pairs apart"


def test_a_pair_is_reference_and_answer() -> None:
    """The question stands before the reference, where the template shows it; a view is a layout."""
    from medreward.engines.judges.cross_encoder import text_pair

    def pair(template: Template, view: View) -> tuple[str, str]:
        return text_pair(Inquiry(template, "left", "left lobe", "Where?", view=view))

    assert pair(MATCH, View.AS_WRITTEN) == ("left lobe", "left")
    assert pair(EQUIVALENCE, View.AS_WRITTEN) == ("Where?\nleft lobe", "left")
    assert pair(EQUIVALENCE, View.SWAPPED) == ("left", "Where?\nleft lobe")
    assert pair(EQUIVALENCE, View.WITHOUT_QUESTION) == ("left lobe", "left")
    assert pair(EQUIVALENCE, View.OTHER_ENGINE) == pair(EQUIVALENCE, View.AS_WRITTEN)


def test_it_answers_only_whether_two_texts_mean_the_same(judge: "CrossEncoderJudge") -> None:
    """A criterion or a scale takes a reader of instructions."""
    assert [name for name, t in TEMPLATES.items() if judge.can_answer(t)] == [
        "equivalence",
        "match",
    ]


@pytest.mark.anyio
async def test_what_is_over_the_window_is_named_not_cut(judge: "CrossEncoderJudge") -> None:
    """Its neighbours are judged."""
    long = Inquiry(MATCH, answer="left " * 20, reference="left")

    first, refused, last = await judge.decide([INQUIRIES[0], long, INQUIRIES[1]])

    assert "it reads at most 66" in problem(refused, ProblemKind.TOO_LONG).message
    judgement(first)
    judgement(last)


@pytest.mark.anyio
async def test_a_separator_in_an_answer_is_text(judge: "CrossEncoderJudge") -> None:
    """An answer cannot end its own text and begin another."""
    encoded = judge._encoded(Inquiry(MATCH, answer="a[SEP]a", reference="a"))  # noqa: SLF001

    assert encoded["input_ids"].count(VOCABULARY["[SEP]"]) == 2


@pytest.mark.anyio
async def test_what_was_judged_before_the_time_ran_out_counts(
    tmp_path: Path, worker: Executor
) -> None:
    """A batch that is too much for the machine ends with problems, not with a time-out."""
    hasty = load(save(tmp_path), worker, timeout_s=1e-6)

    answers = await hasty.decide(INQUIRIES)

    assert all(isinstance(a, Problem) and a.kind is ProblemKind.JUDGE_TIMEOUT for a in answers)


@pytest.mark.parametrize(
    ("labels", "chosen", "index"),
    [
        ({0: "NO", 1: "YES"}, None, 1),
        (NLI, None, 1),
        ({0: "Equivalent", 1: "Different"}, None, 0),
        ({0: "LABEL_0", 1: "LABEL_1"}, "label_1", 1),
        (NLI, "neutral", 2),
    ],
)
def test_the_label_for_yes_is_found_or_set(
    tmp_path: Path, worker: Executor, labels: dict[int, str], chosen: str | None, index: int
) -> None:
    """By its name where that says it, else by the setting; it is part of the identity."""
    judge = load(save(tmp_path, labels), worker, positive_label=chosen)

    assert judge.identity == f"cross_encoder:small:torch.float32:{index}:1"


@pytest.mark.parametrize(
    ("config", "chosen", "message"),
    [
        (
            {"id2label": {0: "LABEL_0", 1: "LABEL_1"}},
            None,
            "LABEL_0, LABEL_1; name one in MEDREWARD_",
        ),
        ({"id2label": {0: "yes", 1: "same"}}, None, "which of the judge's labels means YES"),
        ({"id2label": NLI}, "yes", "which of the judge's labels means YES"),
        (
            {"id2label": NLI, "problem_type": "multi_label_classification"},
            None,
            "do not exclude one another",
        ),
    ],
)
def test_labels_that_do_not_say_yes_are_refused(
    tmp_path: Path, worker: Executor, config: dict[str, Any], chosen: str | None, message: str
) -> None:
    """A guess would turn every verdict around."""
    folder = save(tmp_path, **config)

    with pytest.raises(SetupError, match=message):
        load(folder, worker, positive_label=chosen)


def test_a_model_without_a_classifier_is_refused(tmp_path: Path, worker: Executor) -> None:
    """Weights made up at loading would judge at random."""
    from transformers import BertConfig, BertModel

    BertModel(BertConfig(**SMALL)).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)

    with pytest.raises(
        SetupError, match=r"is no classifier: it has no weights for classifier\.bias"
    ):
        load(tmp_path, worker)


@pytest.mark.anyio
async def test_a_model_that_keeps_positions_for_itself_has_a_shorter_window(
    tmp_path: Path, worker: Executor
) -> None:
    """RoBERTa counts its positions from after the padding's: 66 of them hold 65 tokens here."""
    from transformers import RobertaConfig, RobertaForSequenceClassification

    config = RobertaConfig(**SMALL, id2label={0: "score"})
    RobertaForSequenceClassification(config).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    judge = load(tmp_path, worker)
    fits, over = (Inquiry(MATCH, answer="a" * n, reference="b") for n in (61, 62))

    first, second = await judge.decide([fits, over])

    assert isinstance(first, Judgement)
    assert isinstance(second, Problem)


@pytest.mark.anyio
async def test_a_language_model_with_a_classifying_head_is_padded_too(
    tmp_path: Path, worker: Executor
) -> None:
    """Its head reads the last token that is none of the padding."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(1)
    options = {**SMALL, "pad_token_id": None, "id2label": {0: "NO", 1: "YES"}}
    LlamaForSequenceClassification(LlamaConfig(**options)).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    judge = load(tmp_path, worker)

    together = await p_yes_of(judge, INQUIRIES)
    alone = [(await p_yes_of(judge, [inquiry]))[0] for inquiry in INQUIRIES]

    assert together == pytest.approx(alone, abs=1e-5)


@pytest.mark.anyio
async def test_rewards_and_grades_come_through_the_service(
    serve: Serve, judge: "CrossEncoderJudge"
) -> None:
    """Coverage is null, the verdict is read at one half, and a scale is refused by name."""
    sample = {"response": "<answer>Right lobe</answer>", "reference": "left lobe"}
    item = {"answer": "upper", "reference": "basal", "question": "Where?"}
    async with serve(judge=judge) as client:
        reward = (await client.post("/reward", json={"samples": [sample]})).json()
        grade = (await client.post("/judge", json={"items": [item], "votes": 3})).json()
        report = await client.post("/judge", json={"items": [item], "template": "report"})

    part = reward["results"][0]["components"]["accuracy_llm"]
    assert part["source"] == "judge"
    assert part["value"] == float(part["p_yes"] > 0.5)
    assert grade["results"][0]["status"] == "judged"
    assert len(grade["results"][0]["votes"]) == 3
    assert report.status_code == 422
    assert report.json()["error"]["kind"] == "template_unavailable"


@pytest.mark.anyio
async def test_an_installed_verifier_comes_with_its_calibration(
    tmp_path: Path, worker: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is used without being asked for, and without abstaining; `off` leaves it out."""
    package = tmp_path / "medreward_verifier"
    folder = save(package / "model", {0: "NO", 1: "YES"})
    (package / "__init__.py").touch()
    (folder / MANIFEST).write_text(json.dumps({"version": "1", "files": {}}), "utf-8")
    monkeypatch.delitem(sys.modules, "medreward_verifier", raising=False)
    monkeypatch.syspath_prepend(tmp_path)

    def built(**given: Any) -> Judge:
        return build_judge(BuildContext(Settings(judge="cross_encoder", **given), worker))

    bare = built()
    own = Calibration(entries=(entry(engine=bare.identity, bias=30.0, threshold=0.6),))
    (folder / CALIBRATION).write_text(own.model_dump_json(), "utf-8")
    judge = built()
    (told,) = await judge.decide([Inquiry(MATCH, "left", "right")])

    assert bare.identity == built(calibration="off").identity
    assert bare.identity.startswith("cross_encoder:medreward-verifier@1+")
    assert judge.identity.startswith(f"{bare.identity}+calibration:")
    assert (judgement(told).verdict, judgement(told).threshold) == ("YES", 0.6)
