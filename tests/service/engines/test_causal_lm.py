"""The judge `causal_lm` on a tiny real model: verdicts read off the next token's probabilities."""

import copy
from concurrent.futures import Executor
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from medreward.engines.judge import Inquiry, Judgement, View, is_sound
from medreward.engines.models import own_readouts
from medreward.engines.prompts.tokenization import chat_frame, label_ids
from medreward.engines.registry import BuildContext, build_judge
from medreward.engines.templates import Template, load_templates
from medreward.errors import ProblemKind, SetupError
from medreward.settings import Settings, default_models_dir
from tests.conftest import RealEngines
from tests.service.engines.small_models import llama
from tests.support.problems import judgement, problem

if TYPE_CHECKING:
    from medreward.engines.judges.causal_lm import CausalLmJudge
    from medreward.engines.local.readout import Readout

TEMPLATES = load_templates()
MATCH = TEMPLATES["match"]

pytestmark = pytest.mark.models

PAIRS = [
    ("Left lower lobe", "left lower lobe"),
    ("right lower lobe", "left lower lobe"),
    ("pneumothorax", "collapsed lung"),
    ("no", "yes"),
    (
        "a mass of 5 mm in the upper outer quadrant of the left breast, with spiculated margins",
        "tumour",
    ),
    ("Ménière disease, 気胸, β-haemolytic", "vertigo"),
]
INQUIRIES = [
    Inquiry(
        *(template, answer, reference, "Where?"),
        criterion="Names it" if name == "rubric" else None,
        view=view,
        second="the right lung" if name == "preference" else None,
    )
    for view, (name, template) in zip(cycle(View), TEMPLATES.items(), strict=False)
    for answer, reference in PAIRS
]


@pytest.fixture(scope="module")
def judge(language_model: RealEngines) -> "CausalLmJudge":
    """The tiny language model as a judge."""
    from medreward.engines.judges.causal_lm import CausalLmJudge

    assert isinstance(language_model.judge, CausalLmJudge)
    return language_model.judge


@pytest.fixture(scope="module")
def small(judge: "CausalLmJudge", language_model: RealEngines) -> "CausalLmJudge":
    """A judge of two layers that reads the same tokens."""
    words = judge._model.config.vocab_size  # noqa: SLF001
    model = llama(words=words)
    return remade(judge, language_model.worker, model=model, coverage_floor=0.0)


def remade(
    judge: "CausalLmJudge", worker: Executor, *, model: Any = None, **changed: Any
) -> "CausalLmJudge":
    """The same tokenizer, and the same model unless another is given, under other settings."""
    from medreward.engines.judges.causal_lm import CausalLmJudge

    options: dict[str, Any] = {"name": "remade", "secret": "", "coverage_floor": 0.2, **changed}
    return CausalLmJudge(
        model or judge._model,  # noqa: SLF001
        judge._tokenizer,  # noqa: SLF001
        worker=worker,
        **options,
    )


async def decide(judge: "CausalLmJudge", inquiries: list[Inquiry]) -> list[Judgement]:
    """Judge, where every inquiry has an answer."""
    answers = await judge.decide(inquiries)
    assert all(isinstance(answer, Judgement) for answer in answers)
    return [answer for answer in answers if isinstance(answer, Judgement)]


def assert_alike(some: list[Judgement], others: list[Judgement]) -> None:
    """The same label, and the same probabilities to 1e-4."""
    assert [one.likeliest for one in some] == [other.likeliest for other in others]
    for one, other in zip(some, others, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)
        assert one.coverage == pytest.approx(other.coverage, abs=1e-4)


async def assert_that_the_batch_changes_nothing(
    judge: "CausalLmJudge", inquiries: list[Inquiry]
) -> None:
    """Each inquiry gets alone what it gets among others."""
    together = await decide(judge, inquiries)
    alone = [(await decide(judge, [inquiry]))[0] for inquiry in inquiries]

    assert_alike(together, alone)


@pytest.mark.anyio
async def test_the_batch_does_not_change_the_verdict(small: "CausalLmJudge") -> None:
    """Alone or among others, padded or not, for every template, view and pair."""
    await assert_that_the_batch_changes_nothing(small, INQUIRIES)


@pytest.mark.anyio
async def test_the_batch_does_not_change_the_verdict_of_the_real_model(
    judge: "CausalLmJudge",
) -> None:
    """The same with the weights of SmolLM2, for the inquiries of one template."""
    await assert_that_the_batch_changes_nothing(judge, INQUIRIES[: len(PAIRS)])


@pytest.mark.anyio
@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 3])
async def test_judgements_are_sound_and_well_over_the_floor(
    judge: "CausalLmJudge", every: int
) -> None:
    """Every template's labels get at least the coverage that the floor was chosen from."""
    inquiries = INQUIRIES[::every]
    judgements = await decide(judge, inquiries)

    assert all(is_sound(j, i) for j, i in zip(judgements, inquiries, strict=True))
    assert min(j.coverage or 0.0 for j in judgements) > 0.2


def test_the_precision_is_a_setting_and_part_of_the_identity(
    judge: "CausalLmJudge", language_model: RealEngines
) -> None:
    """Judgements of one precision are not reused for another."""
    model = "smollm2-135m-instruct"
    settings = Settings(judge="causal_lm", judge_model=model, causal_lm_dtype="bfloat16")
    small = build_judge(BuildContext(settings, language_model.worker))

    assert "torch.float32" in judge.identity
    assert small.identity == judge.identity.replace("torch.float32", "torch.bfloat16")


@pytest.mark.anyio
async def test_the_last_position_gives_what_the_whole_pass_gives(judge: "CausalLmJudge") -> None:
    """P(YES) is the plain softmax at the end of the prompt, over the label forms."""
    import torch

    inquiry = INQUIRIES[0]
    ids = torch.tensor([judge.prompt_ids(inquiry)])
    with torch.inference_mode():
        probabilities = judge._model(input_ids=ids).logits[0, -1].softmax(-1)  # noqa: SLF001
    tokenizer = judge._tokenizer  # noqa: SLF001
    yes, no = (float(probabilities[i].sum()) for i in label_ids(tokenizer, inquiry.template))

    (judgement,) = await decide(judge, [inquiry])

    assert judgement.coverage == pytest.approx(yes + no, abs=1e-5)
    assert judgement.p_yes == pytest.approx(yes / (yes + no), abs=1e-5)


def readout(template: Template, words: int = 32) -> "Readout":
    """A readout of the first layer of the model of two layers, with weights of no meaning."""
    import torch

    from medreward.engines.local.readout import Readout

    torch.manual_seed(3)
    yes_D = torch.randn(words)  # noqa: N806 - D dimensions
    weights_KD = torch.stack([yes_D, -yes_D])  # noqa: N806 - K labels
    return Readout(
        template.name, template.sha, 1, weights_KD, torch.tensor([0.1, 0.0]), threshold=0.6
    )


@pytest.mark.anyio
async def test_a_readout_reads_the_output_of_its_layer(
    small: "CausalLmJudge", language_model: RealEngines
) -> None:
    """P(YES) is the logistic function of a sum over the state, and other templates keep their words."""
    import torch

    fitted = readout(MATCH)
    reading = remade(
        small,
        language_model.worker,
        model=small._model,  # noqa: SLF001
        coverage_floor=0.0,
        readouts=[fitted],
    )
    inquiry = Inquiry(MATCH, "pneumothorax", "collapsed lung")
    ids = torch.tensor([small.prompt_ids(inquiry)])
    with torch.inference_mode():
        output = small._model(input_ids=ids, output_hidden_states=True)  # noqa: SLF001
    logits = fitted.logits(output.hidden_states[1][0, -1:])[0]

    (read,) = await decide(reading, [inquiry])

    assert read.p_yes == pytest.approx(float(logits.softmax(-1)[0]), abs=1e-5)
    assert read.threshold == 0.6
    others = [i for i in INQUIRIES if i.template is not MATCH]
    assert_alike(await decide(reading, others), await decide(small, others))
    assert reading.identity != small.identity


@pytest.mark.anyio
async def test_the_batch_does_not_change_what_a_readout_says(
    small: "CausalLmJudge", language_model: RealEngines
) -> None:
    """Alone or among others, as with the model's own words."""
    reading = remade(
        small,
        language_model.worker,
        model=small._model,  # noqa: SLF001
        coverage_floor=0.0,
        readouts=[readout(MATCH)],
    )

    await assert_that_the_batch_changes_nothing(reading, INQUIRIES)


def test_readouts_are_read_as_they_were_written(tmp_path: Path) -> None:
    """The identity covers all of their numbers; a file of something else is refused."""
    from medreward.engines.local.readout import load_readouts, save_readouts

    file = tmp_path / "readouts.safetensors"
    written = [readout(TEMPLATES["equivalence"]), readout(MATCH)]
    save_readouts(file, written)

    read = load_readouts(file)

    assert [one.template for one in read] == ["equivalence", "match"]
    assert [one.identity for one in read] == [one.identity for one in written]
    file.write_bytes(b"something else")
    with pytest.raises(SetupError, match="holds no readouts"):
        load_readouts(file)


def test_the_shipped_readouts_are_for_today_s_templates() -> None:
    """A template of another wording would silently lose its readout."""
    from medreward.engines.local.readout import load_readouts

    file = own_readouts("qwen2.5-coder-1.5b-instruct", default_models_dir())
    assert file is not None

    for one in load_readouts(file):
        assert one.template_sha == TEMPLATES[one.template].sha
        assert one.weights_KD.shape == (len(TEMPLATES[one.template].labels), 1536)


def test_a_template_with_the_time_in_it_is_written_once(
    small: "CausalLmJudge", language_model: RealEngines
) -> None:
    """The same inquiry has the same prompt all day and the next; another start has another identity."""
    from medreward.engines.judges.causal_lm import CausalLmJudge

    tokenizer = copy.deepcopy(small._tokenizer)  # noqa: SLF001
    tokenizer.chat_template = "It is {{ strftime_now('%f') }}.\n{{ messages[0]['content'] }}\nYou:"
    options: dict[str, Any] = {"name": "dated", "secret": "", "coverage_floor": 0.2}
    one, other = (
        CausalLmJudge(small._model, tokenizer, worker=language_model.worker, **options)  # noqa: SLF001
        for _ in range(2)
    )

    assert one.prompt_ids(INQUIRIES[0]) == one.prompt_ids(INQUIRIES[0])
    assert one.identity != other.identity


def test_a_template_that_changes_messages_is_refused(judge: "CausalLmJudge") -> None:
    """What it would do to the fence around the data, nobody knows."""
    tokenizer = copy.deepcopy(judge._tokenizer)  # noqa: SLF001
    tokenizer.chat_template = "{{ messages[0]['content'] | upper }}"

    with pytest.raises(SetupError, match="chat template"):
        chat_frame(tokenizer)


@pytest.mark.anyio
async def test_a_prompt_that_is_too_long_is_named_and_its_neighbours_are_judged(
    small: "CausalLmJudge", language_model: RealEngines
) -> None:
    """Nothing is cut off before it is judged."""
    brief = remade(small, language_model.worker, coverage_floor=0.0, max_prompt_tokens=256)
    long = Inquiry(MATCH, answer="γ-globulin " * 100, reference="b")

    answers = await brief.decide([INQUIRIES[0], long, INQUIRIES[1]])

    assert "it reads at most 256" in problem(answers[1], ProblemKind.TOO_LONG).message
    judgement(answers[0])
    judgement(answers[2])


@pytest.mark.anyio
async def test_under_the_coverage_floor_there_is_no_verdict(
    judge: "CausalLmJudge", language_model: RealEngines
) -> None:
    """A model that does not answer in labels has said nothing."""
    strict = remade(judge, language_model.worker, coverage_floor=0.99)
    (answer,) = await strict.decide([INQUIRIES[0]])

    problem(answer, ProblemKind.JUDGE_UNPARSEABLE)


def test_labels_count_by_their_first_token_in_every_form(judge: "CausalLmJudge") -> None:
    """YES is two tokens here and counts by its first; the sides share no token."""
    tokenizer = judge._tokenizer  # noqa: SLF001
    yes, no = label_ids(tokenizer, MATCH)
    words = {tokenizer.decode([i]) for i in yes}

    assert words == {"Y", " Y", "Yes", " Yes", "yes", " yes"}
    assert not set(yes) & set(no)
    assert all(len(ids) == 1 for ids in label_ids(tokenizer, TEMPLATES["report"]))


def test_a_tokenizer_that_cannot_tell_the_labels_apart_is_refused() -> None:
    """Bytes as tokens would make every digit grade begin with the same space."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = Tokenizer(models.WordLevel({"YES": 0, "[UNK]": 1}, unk_token="[UNK]"))
    letters.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters, unk_token="[UNK]")

    with pytest.raises(SetupError, match="cannot tell the label"):
        label_ids(tokenizer, TEMPLATES["report"])
