"""`medreward explain`: each rule in order, each signal, the sum."""

from collections.abc import Callable
from pathlib import Path

import pytest

from medreward.app import create_app
from medreward.cli.explain import WHAT_TO_DO
from medreward.errors import ProblemKind
from tests.contract.test_judge import LatinJudge
from tests.service.cli.conftest import ROLLOUTS, STRICT_RECIPE, Outcome, Run, outage, settings
from tests.support.service import served

Write = Callable[..., Path]

RESPONSE = "<X_RAY><thinking>t</thinking><answer>{}</answer>"


@pytest.fixture
def explained(run: Run, url: str) -> Callable[..., str]:
    """Explain an answer to the reference “left lower lobe”; white space is made even."""

    def explained(answer: str, *options: str, shape: str = RESPONSE) -> str:
        told = run(
            "explain",
            *("--response", shape.format(answer)),
            *("--reference", "left lower lobe"),
            *("--url", url),
            *options,
        )
        assert told.code == 0
        return " ".join(told.stdout.split())

    return explained


def test_a_rejected_answer_names_the_rule(explained: Callable[..., str]) -> None:
    """The rules end there: no equality, no model. One character is too few."""
    told = explained("left: lower lobe", "--modality", "X_RAY")

    assert "5. rejected?" not in told
    assert "6. rejected? yes: the answer holds ':'; wrong, whatever the reference" in told
    assert "equal?" not in told
    assert "reward 0.1450" in told
    assert "flags rejected_answer" in told
    assert "yes: the answer has 1 characters, and 2 are the least" in explained("A")


def test_an_equal_answer_needs_no_model(explained: Callable[..., str]) -> None:
    """The rule and the signals agree on it."""
    told = explained("left lower lobe")

    assert "equal? yes, to the letter: right, and no model is asked" in told
    assert "equal to a reference" in told
    assert "asked the judge" not in told


def test_what_is_asked_is_named(explained: Callable[..., str]) -> None:
    """The judge's template, and the numbers that came back."""
    told = explained("Left lower lobe")

    assert "asked the judge (template match) and the embedder" in told
    assert "asked the judge, P(YES) 1.0000, coverage 1.000" in told
    assert "asked the embedder, cosine 1.0000 ≥ 0.8" in told


def test_each_signal_adds_its_value_times_its_weight(explained: Callable[..., str]) -> None:
    """With pencil and paper: four lines and their sum."""
    told = explained("spleen", "--modality", "X_RAY")

    assert "accuracy_llm 0 0.5175 0.0000" in told
    assert "accuracy_embed 0 0.3375 0.0000" in told
    assert "modality 1 0.0450 0.0450 by rule" in told
    assert "format 1 0.1000 0.1000 by rule" in told
    assert "reward 0.1450" in told


def test_how_the_answer_was_found_is_told(explained: Callable[..., str]) -> None:
    """In its tags, or for want of them everywhere, and without white space around three signs."""
    inside = explained(" spleen. ")
    outside = explained("spleen", shape="{}")

    assert "in the first <answer>…</answer>, without full stops around it: “spleen”" in inside
    assert "no <answer>…</answer>: the whole response is the answer: “spleen”" in outside
    assert "2 characters of it around < > / removed" in explained("120 / 80")


def test_where_the_modality_comes_from_is_told(run: Run, url: str) -> None:
    """A MediX reference brings its own; a response may show another; there may be none."""
    told = {
        reference: _explain(run, url, "--reference", reference)
        for reference in ("<X_RAY>spleen", "<CT_SCAN>spleen", "spleen")
    }

    assert "its modality tag taken off: “spleen”" in told["<X_RAY>spleen"]
    assert "stands “<X_RAY>”, as it should" in told["<X_RAY>spleen"]
    assert "stands “<X_RAY>”, which is not the modality asked for" in told["<CT_SCAN>spleen"]
    assert "not known, so its weight goes to the other signals" in told["spleen"]


def test_several_references_are_all_told(run: Run, url: str) -> None:
    """--reference may be given more than once."""
    told = _explain(run, url, "--reference", "spleen", "--reference", "the spleen")

    assert "“spleen”, or “the spleen”" in told
    assert "for each reference" in told


def test_what_cannot_be_seen_is_written_out(explained: Callable[..., str]) -> None:
    """A no-break space is why the two are not equal."""
    assert "“left\\xa0lower lobe”" in explained("left\u00a0lower lobe")


def test_texts_cannot_speak_to_the_terminal(explained: Callable[..., str]) -> None:
    """A rollout may hold markup, or a terminal's control sequences."""
    told = explained("[bold]x[/] :pill: \x1b[2J")

    assert "[bold]x[/] :pill: \\x1b[2J" in told
    assert "\x1b" not in told


def test_a_sample_of_a_file_is_chosen_by_id_or_line(run: Run, url: str) -> None:
    """Both ways lead to the same."""
    by_id = run("explain", ROLLOUTS, "--id", "q01-wrong_side", "--url", url)
    by_line = run("explain", ROLLOUTS, "--line", "3", "--url", url)

    assert by_id.code == 0
    assert by_id.stdout.startswith("q01-wrong_side under medix-r1 sha256:")
    assert _rules(by_id) == _rules(by_line)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "give a file and --id, or --response and --reference"),
        ([ROLLOUTS], "has 110 samples; choose by --id or --line"),
        ([ROLLOUTS, "--id", "none"], "no sample there; check --id and --line"),
        ([ROLLOUTS, "--id", "q01-right", "--response", "x"], "but not both"),
    ],
)
def test_an_unclear_choice_is_refused(run: Run, arguments: list[str | Path], reason: str) -> None:
    """Before a service is started for it."""
    told = run("explain", *arguments)

    assert told.code == 2
    assert reason in told.stderr


def test_an_id_that_occurs_twice_needs_a_line(run: Run, jsonl: Write, url: str) -> None:
    """The message names the lines."""
    sample = {"id": "twin", "response": "spleen", "reference": "spleen"}
    file = jsonl(sample, sample)

    assert "choose one by --line (1, 2)" in run("explain", file, "--id", "twin").stderr
    assert run("explain", file, "--id", "twin", "--line", "2", "--url", url).code == 0


def test_an_unscored_sample_is_told_what_to_do(run: Run) -> None:
    """What was had, what was not, and the way on."""
    with served(outage()) as url:
        told = _run(run, url, "--reference", "liver")

    assert told.code == 1
    assert "not had   accuracy_llm" in told.stdout
    assert "judge_unreachable: " in told.stderr
    assert "MEDREWARD_JUDGE_URL" in told.stderr


def test_an_unknown_modality_is_refused(run: Run, url: str) -> None:
    """As the service would, naming the choices."""
    told = _run(run, url, "--reference", "spleen", "--modality", "XRAY")

    assert told.code == 2
    assert "choose from X_RAY" in told.stderr


def test_another_recipe_explains_itself(run: Run, url: str) -> None:
    """The service's own recipe is fetched, also one that is not built in."""
    told = _explain(run, url, "--reference", "liver", "--recipe", "strict")

    assert "under strict" in told
    assert "embedder, cosine" not in told
    assert "rejected? no" in told


@pytest.mark.parametrize(
    ("tags", "response", "said"),
    [
        (
            'thinking = "think"\nanswer = "none"',
            "<think>t</think>spleen",
            "after the thinking, without full stops around it: “spleen”",
        ),
        (
            'thinking = "none"\nanswer = "\\\\boxed"',
            "so \\boxed{spleen}",
            "in the last \\boxed{…}, without full stops around it: “spleen”",
        ),
        (
            'thinking = "none"\nanswer = "none"',
            "spleen",
            "the whole response is the answer: “spleen”",
        ),
    ],
)
def test_every_way_to_mark_an_answer_is_told(
    run: Run, tmp_path: Path, tags: str, response: str, said: str
) -> None:
    """A recipe's tags are data, and reach the explanation whole."""
    recipe = tmp_path / "other.toml"
    recipe.write_text(STRICT_RECIPE.replace("tighten = true", tags), "utf-8")
    with served(create_app(settings(recipes=(recipe,), recipe="strict"))) as url:
        told = run("explain", "--response", response, "--reference", "Spleen", "--url", url)

    assert told.code == 0
    assert said in " ".join(told.stdout.split())


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("right lower lobe", "vetoed, contrast.laterality: “right” against “left”"),
        ("Left lower lobe", "plainly right, by the rule equal"),
        ("Left lower lobe", "by rule, equal"),
        ("Thought process:", "vetoed, vacuity.opener: “Thought process"),
    ],
)
def test_a_guarded_recipe_tells_rule_and_words(
    explained: Callable[..., str], answer: str, told: str
) -> None:
    """Both words of a contrast stand beside its rule."""
    assert told in explained(answer, "--recipe", "medix-r1-guarded")


@pytest.mark.parametrize(
    ("answer", "reference", "kind", "step"),
    [
        ("lobe", "spleen", "judge_abstained", "asked"),
        ("spleen", "肺炎", "unreadable", "no, not to this judge's tokenizer: no model is asked"),
        ("肺炎", "spleen", None, "no, not to this judge's tokenizer: no model is asked"),
    ],
)
def test_advice_fits_the_reason(
    run: Run, answer: str, reference: str, kind: str | None, step: str
) -> None:
    """A reward has no votes; what the judge cannot read has a step of its own."""
    app = create_app(settings(recipe="medix-r1-guarded"), judge=LatinJudge(default="YES"))
    with served(app) as url:
        told = run(
            "explain",
            *("--response", RESPONSE.format(answer)),
            *("--reference", reference),
            *("--url", url),
        )

    assert step in " ".join(told.stdout.split())
    assert (f"{kind}: " in told.stderr) if kind else told.code == 0
    assert "--votes" not in told.stderr


def test_every_kind_of_problem_has_advice() -> None:
    """A new kind needs a line of its own."""
    assert set(WHAT_TO_DO) == set(ProblemKind)


def _rules(told: Outcome) -> str:
    """What stands before the signals, of which the second look has some from the cache."""
    return told.stdout.split("What the signals")[0]


def _run(run: Run, url: str, *options: str) -> Outcome:
    return run("explain", "--response", RESPONSE.format("spleen!"), "--url", url, *options)


def _explain(run: Run, url: str, *options: str) -> str:
    told = _run(run, url, *options)
    assert told.code == 0
    return " ".join(told.stdout.split())
