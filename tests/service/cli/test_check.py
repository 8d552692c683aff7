"""`medreward check`: what would be loaded, whether it can be, and what mends what cannot."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from medreward.cli.check import run_checks
from medreward.cli.terminal import CommandError
from medreward.engines.accelerator import Platform
from medreward.engines.supervisor import LIMITS_WITHOUT_LLM
from tests.service.cli.conftest import PATIENT_TEXT, ROLLOUTS, Outcome, Run
from tests.service.engines.judge_servers import MODEL, FakeServer, Model
from tests.support.service import served

Write = Callable[..., Path]

GOOD = {"response": "spleen", "reference": "spleen"}


@pytest.mark.usefixtures("no_models")
def test_a_sound_deployment_passes(run_apart: Run) -> None:
    """Settings, recipes, engines, models; both engines loaded and asked once."""
    told = run_apart("check")

    assert told.code == 0
    assert "✗" not in told.stdout
    for check in ("settings", "recipes", "engines", "judge model", "load judge", "coverage"):
        assert f"✓   {check}" in told.stdout


@pytest.mark.usefixtures("no_models")
def test_a_process_that_only_embeds_is_checked_without_a_judge(
    run_apart: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its embedder is loaded, and no judge is asked."""
    monkeypatch.setenv("MEDREWARD_ROLE", "embed")
    monkeypatch.setenv("MEDREWARD_EMBEDDER", "hashed")
    monkeypatch.delenv("MEDREWARD_JUDGE", raising=False)
    told = run_apart("check")

    assert told.code == 0
    assert "✓   load embedder" in told.stdout
    assert "coverage" not in told.stdout


@pytest.mark.usefixtures("no_models")
def test_loading_can_be_left_out(run: Run) -> None:
    """--no-load looks and touches nothing."""
    told = run("check", "--no-load")

    assert told.code == 0
    assert "load judge" not in told.stdout


@pytest.mark.usefixtures("no_models")
def test_secrets_are_masked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, secrets and passwords in URLs are named and not shown."""
    for name in ("API_KEYS", "SECRET", "JUDGE_API_KEY"):
        monkeypatch.setenv(f"MEDREWARD_{name}", "hunter2")
    monkeypatch.setenv("MEDREWARD_JUDGE_URL", "http://me:hunter2@judge:8000/v1")
    told = run("check", "--no-load")

    assert told.code == 0
    assert "hunter2" not in told.stdout + told.stderr
    assert "MEDREWARD_API_KEYS" in told.stdout
    assert "http://judge:8000/v1" in told.stdout


def test_missing_models_are_told_with_what_mends_them(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Both at once, and nothing is loaded; the verifier is installed with the package."""
    monkeypatch.setenv("MEDREWARD_MODELS_DIR", str(tmp_path))
    monkeypatch.setenv("MEDREWARD_LLM", "causal_lm")
    monkeypatch.setenv("MEDREWARD_LLM_MODEL", "qwen2.5-coder-1.5b-instruct")
    told = run("check")

    assert told.code == 1
    assert "✓   judge model" in told.stdout
    assert "✗   llm model" in told.stdout
    assert "✗   embedder model" in told.stdout
    for model in ("qwen2.5-coder-1.5b-instruct", "all-minilm-l6-v2"):
        assert f"run `medreward models fetch {model}`" in _unwrapped(told.stdout)
    assert told.stderr == "medreward: not as it should be: llm model, embedder model\n"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("MEDREWARD_PORT", "x", "MEDREWARD_PORT: Input should be"),
        ("MEDREWARD_HOST", "::", "set MEDREWARD_API_KEYS"),
        ("MEDREWARD_JUGDE", "scripted", "did you mean MEDREWARD_JUDGE?"),
        ("MEDREWARD_JUDGE", "oracle", "choose from causal_lm"),
        ("MEDREWARD_RECIPE", "medix", "MEDREWARD_RECIPE='medix'; choose from medix-r1"),
        ("MEDREWARD_RECIPES", "/nowhere.toml", "mend MEDREWARD_RECIPES"),
    ],
)
@pytest.mark.usefixtures("no_models")
def test_a_wrong_setting_is_told_with_what_mends_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    """One row, and 1 at the end."""
    monkeypatch.setenv(name, value)
    told = run("check", "--no-load")

    assert told.code == 1
    assert "✗" in told.stdout
    assert said in _unwrapped(told.stdout)


@pytest.mark.usefixtures("no_models")
def test_what_kubernetes_sets_is_no_mistake(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Service named medreward appears in the environment of its neighbours."""
    monkeypatch.setenv("MEDREWARD_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("MEDREWARD_PORT_8080_TCP_ADDR", "10.0.0.1")

    assert run("check", "--no-load").code == 0


@pytest.mark.usefixtures("no_models")
def test_a_sound_file_is_counted(run: Run) -> None:
    """How many would be settled by rule, found equal, and asked about."""
    told = run("check", "--no-load", ROLLOUTS)

    assert told.code == 0
    assert "samples        110" in told.stdout
    assert "wrong by rule  11" in told.stdout
    assert "equal to it    10" in told.stdout
    assert "asked          89 of the judge and the embedder" in told.stdout


@pytest.mark.usefixtures("no_models")
def test_lines_that_would_be_refused_or_unscored_are_named(run: Run, jsonl: Write) -> None:
    """By number, in order, and without quoting them."""
    file = jsonl(
        GOOD,
        "nonsense",
        GOOD | {"reference": " "},
        GOOD | {"modality": "XRAY"},
        GOOD | {"rubric": PATIENT_TEXT},
        GOOD | {"response": PATIENT_TEXT * 20_000},
    )
    told = run("check", "--no-load", file)
    refused, unscored = told.stdout.split("refused: ")[1].split("unscored, whatever")

    assert told.code == 1
    assert _numbers(refused) == [2, 4, 5]
    assert _numbers(unscored) == [3, 6]
    assert "invalid_reference: reference: empty" in unscored
    assert "too_long: response: over 262144 bytes" in unscored
    assert PATIENT_TEXT not in told.stdout + told.stderr


@pytest.mark.usefixtures("no_models")
def test_the_users_limits_are_the_ones_that_count(
    run: Run, jsonl: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is too long is a setting."""
    monkeypatch.setenv("MEDREWARD_MAX_RESPONSE_BYTES", "5")

    assert "over 5 bytes" in run("check", "--no-load", jsonl(GOOD)).stdout


@pytest.mark.models
def test_the_profile_embedded_small_is_sound(run_apart: Run) -> None:
    """The two real models are what they were, and load; what the judge cannot read is told."""
    told = run_apart("check")

    assert told.code == 0
    assert _unwrapped(told.stdout).count("every file as it was fetched") == 2
    assert "this engine sees only the labels" in told.stdout
    assert f"✓ judge's limits {LIMITS_WITHOUT_LLM}" in _unwrapped(told.stdout)


@pytest.mark.slow
@pytest.mark.models
def test_the_profile_embedded_is_sound(run_apart: Run) -> None:
    """Its three models are what they were, load, and answer terms and a report."""
    told = run_apart("check", "--profile", "embedded")

    assert told.code == 0
    assert _unwrapped(told.stdout).count("every file as it was fetched") == 3
    assert "judge's limits" not in told.stdout


@pytest.mark.models
def test_a_language_model_is_told_how_well_it_covers_the_labels(
    run_apart: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The share of the probability that falls on YES and NO, beside the floor."""
    monkeypatch.setenv("MEDREWARD_JUDGE", "causal_lm")
    monkeypatch.setenv("MEDREWARD_JUDGE_MODEL", "smollm2-135m-instruct")
    monkeypatch.setenv("MEDREWARD_EMBEDDER", "hashed")
    told = run_apart("check")

    assert told.code == 0
    assert "of the probability falls on YES/NO; the floor is 0.2" in told.stdout


def _numbers(table: str) -> list[int]:
    firsts = (line.split()[0] for line in table.splitlines() if line.split())
    return [int(first) for first in firsts if first.isdecimal()]


def _unwrapped(table: str) -> str:
    return " ".join(table.split())


def _check_judge_of(server: FakeServer, run: Run, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    with served(server.app) as url:
        given = {"MEDREWARD_JUDGE": "openai", "MEDREWARD_JUDGE_URL": f"{url}/v1"}
        for name, value in {**given, "MEDREWARD_JUDGE_MODEL": MODEL, "NO_PROXY": "*"}.items():
            monkeypatch.setenv(name, value)
        return run("check")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("vllm", "by completions"),
        ("openai", "by chat; not by completions: tokenize is answered by 404"),
    ],
)
@pytest.mark.usefixtures("no_models")
def test_a_judge_behind_a_server_is_shown_with_the_way_it_is_asked(
    run: Run, monkeypatch: pytest.MonkeyPatch, kind: str, said: str
) -> None:
    """The way that was found, and why not a cheaper one."""
    told = _check_judge_of(FakeServer(kind), run, monkeypatch)

    assert told.code == 0
    assert said in _unwrapped(told.stdout)


@pytest.mark.usefixtures("no_models")
def test_a_judge_that_does_not_answer_in_labels_fails_the_check(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a run would find out."""
    told = _check_judge_of(FakeServer("vllm", Model(mute=True)), run, monkeypatch)

    assert told.code == 1
    assert "the judge does not answer in labels" in _unwrapped(told.stdout)


@pytest.mark.usefixtures("logs_restored")
def test_too_little_memory_for_the_profile_is_told_with_the_one_that_fits(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Both numbers and the profile's name, before anything is loaded."""
    platform = Platform(process_memory=3 * 2**30)
    with pytest.raises(CommandError, match=r"^not as it should be: engines$"):
        run_checks(None, recipe=None, profile="embedded", loads=True, probe=lambda _: platform)

    told = _unwrapped(capsys.readouterr().out)
    assert "✗ engines" in told
    assert "needs 4.5 GiB" in told
    assert "may take 3.0 GiB" in told
    assert "MEDREWARD_PROFILE=embedded-small" in told


@pytest.mark.usefixtures("logs_restored")
@pytest.mark.parametrize(
    ("platform", "said"),
    [
        (Platform(has_vllm=False, cuda_devices=1), "pip install 'medreward[vllm]'"),
        (Platform(has_vllm=True, cuda_devices=0), "torch finds none"),
        (Platform(has_vllm=True, cuda_devices=1), "✓ engines vllm, sentence_transformer"),
    ],
)
def test_the_profile_gpu_is_refused_with_what_the_machine_lacks(
    capsys: pytest.CaptureFixture[str], platform: Platform, said: str
) -> None:
    """The judge in vLLM is shown, and what mends the machine, or that it is fit."""
    is_fit = platform.has_vllm and platform.cuda_devices
    refused = pytest.raises(CommandError, match=r"^not as it should be: engines$")
    with nullcontext() if is_fit else refused:
        run_checks(None, recipe=None, profile="gpu", loads=False, probe=lambda _: platform)

    told = _unwrapped(capsys.readouterr().out)
    assert "Qwen/Qwen3-4B-Instruct-2507 vllm" in told
    assert said in told
    assert ("✗ engines" in told) is not bool(is_fit)
