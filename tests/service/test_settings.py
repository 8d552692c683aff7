"""The settings: read once from the environment, typed, told apart, and quiet about secrets."""

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from medreward.settings import ProfileName, Settings, default_models_dir

SECRETS = {
    "MEDREWARD_JUDGE_API_KEY": "sk-judge",
    "MEDREWARD_EMBEDDER_API_KEY": "sk-embedder",
    "MEDREWARD_SECRET": "of-the-fence",
    "MEDREWARD_API_KEYS": "sk-one,sk-two",
}


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Leave nothing of this machine's own settings."""
    for name in os.environ:
        if name.upper().startswith("MEDREWARD_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


# Profiles.


@pytest.mark.parametrize(
    ("profile", "judge", "llm", "embedder", "device"),
    [
        (
            "embedded",
            ("cross_encoder", "medreward-verifier"),
            ("causal_lm", "qwen2.5-coder-1.5b-instruct"),
            ("sentence_transformer", "all-minilm-l6-v2"),
            "cpu",
        ),
        (
            "embedded-small",
            ("cross_encoder", "medreward-verifier"),
            None,
            ("sentence_transformer", "all-minilm-l6-v2"),
            "cpu",
        ),
        (
            "gpu",
            ("vllm", "Qwen/Qwen3-4B-Instruct-2507"),
            None,
            ("sentence_transformer", "abhinand/MedEmbed-large-v0.1"),
            "cuda",
        ),
        (
            "remote",
            ("openai", "Qwen/Qwen3-4B-Instruct-2507"),
            None,
            ("openai", "abhinand/MedEmbed-large-v0.1"),
            "cpu",
        ),
    ],
)
def test_a_profile_names_engines_models_and_device(
    profile: ProfileName,
    judge: tuple[str, str],
    llm: tuple[str, str] | None,
    embedder: tuple[str, str],
    device: str,
) -> None:
    """A profile is chosen by name, never by what happens to answer; without a name it is embedded."""
    settings = Settings() if profile == "embedded" else Settings(profile=profile)

    assert (settings.judge_choice, settings.llm_choice) == (judge, llm)
    assert settings.embedder_choice == embedder
    assert settings.torch_device == device


@pytest.mark.parametrize(
    ("given", "judge"),
    [
        ({"judge": "causal_lm"}, ("causal_lm", "qwen2.5-coder-1.5b-instruct")),
        ({"profile": "embedded-small", "judge": "causal_lm"}, ("causal_lm", "")),
        ({"judge_model": "other"}, ("cross_encoder", "other")),
        ({"judge": "causal_lm", "judge_model": "other"}, ("causal_lm", "other")),
        ({"judge": "openai"}, ("openai", "")),  # another engine's model would be the wrong one
        ({"profile": "gpu", "judge": "causal_lm"}, ("causal_lm", "Qwen/Qwen3-4B-Instruct-2507")),
        ({"profile": "gpu", "judge": "openai", "judge_model": "other"}, ("openai", "other")),
        ({"embedder": "hashed", "embedder_model": "x"}, ("cross_encoder", "medreward-verifier")),
    ],
)
def test_an_engine_or_model_of_ones_own_goes_before_the_profiles(
    given: dict[str, Any], judge: tuple[str, str]
) -> None:
    """A profile's model goes with its engine; another engine needs a model of its own."""
    assert Settings(**given).judge_choice == judge


@pytest.mark.parametrize(
    ("given", "llm"),
    [
        ({"judge_model": "other"}, ("causal_lm", "qwen2.5-coder-1.5b-instruct")),
        ({"judge": "cross_encoder"}, None),
        ({"llm_model": "other"}, ("causal_lm", "other")),
        ({"llm": "openai", "llm_model": "other"}, ("openai", "other")),
        ({"llm": "openai"}, ("openai", "")),
        ({"judge": "cross_encoder", "llm": "vllm", "llm_model": "other"}, ("vllm", "other")),
        ({"profile": "remote", "llm": "openai", "llm_model": "other"}, ("openai", "other")),
        ({"profile": "embedded-small", "llm": "causal_lm"}, ("causal_lm", "")),
        ({"role": "judge"}, ("causal_lm", "qwen2.5-coder-1.5b-instruct")),
        ({"role": "embed"}, None),
    ],
)
def test_a_language_model_stands_beside_the_judge(
    given: dict[str, Any], llm: tuple[str, str] | None
) -> None:
    """The profile's, unless the judge is somebody's own; then one has to be named."""
    assert Settings(**given).llm_choice == llm


@pytest.mark.parametrize(
    ("given", "escalates"),
    [
        ({}, True),
        ({"llm_model": "other"}, True),
        ({"cascade": False}, False),
        ({"judge": "cross_encoder"}, False),
        ({"judge": "cross_encoder", "llm": "openai"}, False),
        ({"judge": "cross_encoder", "llm": "openai", "cascade": True}, True),
        ({"profile": "embedded-small"}, False),
        ({"profile": "embedded-small", "llm": "openai"}, False),
        ({"profile": "gpu"}, False),
        ({"role": "api"}, False),
        ({"role": "embed"}, False),
    ],
)
def test_the_profile_decides_whether_the_language_model_helps_an_unsure_judge(
    given: dict[str, Any], escalates: bool
) -> None:
    """It does so for its own judge only, and a setting of one's own goes before it."""
    assert Settings(**given).escalates is escalates


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({}, ["judge", "llm", "embedder"]),
        ({"profile": "embedded-small"}, ["judge", "embedder"]),
        ({"role": "judge"}, ["judge", "llm"]),
        ({"role": "embed"}, ["embedder"]),
        ({"role": "api"}, ["judge", "embedder"]),
    ],
)
def test_a_process_has_the_engines_of_its_role(given: dict[str, Any], names: list[str]) -> None:
    """By name, in one order."""
    assert list(Settings(**given).choices) == names


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"profile": "remote", "cascade": True}, "MEDREWARD_CASCADE"),
        ({"profile": "embedded-small", "cascade": True}, "MEDREWARD_CASCADE"),
        ({"judge": "scripted", "llm_model": "other"}, "MEDREWARD_LLM_MODEL"),
    ],
)
def test_what_needs_a_second_engine_is_refused_without_one(
    given: dict[str, Any], name: str
) -> None:
    """A setting that would do nothing is no default."""
    with pytest.raises(ValidationError, match=f"{name} is for .*: set MEDREWARD_LLM"):
        Settings(**given)


@pytest.mark.parametrize(
    ("given", "abstains"),
    [
        ({}, True),
        ({"cascade": False}, False),
        ({"profile": "embedded-small"}, False),
        ({"profile": "embedded-small", "calibration": "off"}, False),
        ({"profile": "embedded-small", "calibration": "file.json"}, True),
        ({"cascade": True}, True),
        ({"cascade": True, "abstain": False}, False),
        ({"abstain": True}, True),
    ],
)
def test_a_judge_abstains_where_somebody_has_looked_into_it(
    given: dict[str, Any], abstains: bool
) -> None:
    """A calibration of one's own, or another engine to turn to; or where it is said."""
    assert Settings(**given).abstains is abstains


@pytest.mark.parametrize(
    ("value", "file"), [("off", None), ("", None), ("./off", Path("off")), ("a/b", Path("a/b"))]
)
def test_a_calibration_is_a_file_or_off(
    monkeypatch: pytest.MonkeyPatch, value: str, file: Path | None
) -> None:
    """Off leaves out also the one that comes with the model."""
    monkeypatch.setenv("MEDREWARD_CALIBRATION", value)

    assert Settings().calibration_file == file


@pytest.mark.parametrize(
    ("given", "embedder"),
    [
        ({"embedder": "openai", "embedder_model": "other"}, ("openai", "other")),
        ({"embedder": "hashed"}, ("hashed", "")),
        ({"judge": "scripted"}, ("sentence_transformer", "all-minilm-l6-v2")),
    ],
)
def test_the_embedder_is_chosen_likewise_and_by_itself(
    given: dict[str, Any], embedder: tuple[str, str]
) -> None:
    """What is set for the judge leaves the embedder alone."""
    assert Settings(**given).embedder_choice == embedder


def test_a_device_of_ones_own_goes_before_the_profiles() -> None:
    """A second GPU is one setting away."""
    assert Settings(profile="gpu", device="cuda:1").torch_device == "cuda:1"


# The environment.


@pytest.mark.parametrize(
    ("variable", "value", "field", "expected"),
    [
        ("MEDREWARD_PORT", "9000", "port", 9000),
        ("medreward_port", "9000", "port", 9000),
        ("MEDREWARD_DEADLINE_S", "1.5", "deadline_s", 1.5),
        ("MEDREWARD_ALLOW_UNAUTHENTICATED", "true", "allow_unauthenticated", True),
        ("MEDREWARD_JUDGE_URL", "http://a, http://b", "judge_url", ("http://a", "http://b")),
        ("MEDREWARD_SECRET", "s", "secret", SecretStr("s")),
        ("MEDREWARD_MODELS_DIR", "/models", "models_dir", Path("/models")),
    ],
)
def test_each_setting_is_read_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, field: str, expected: object
) -> None:
    """Under its name with the prefix, in any case."""
    monkeypatch.setenv(variable, value)

    assert getattr(Settings(), field) == expected


def test_nothing_else_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither other programs' variables nor what lies in the working directory."""
    for variable in ("PORT", "HOST", "MEDREWARDPORT", "SECRET", "API_KEYS"):
        monkeypatch.setenv(variable, "1")
    (tmp_path / ".env").write_text("MEDREWARD_PORT=9000\n", encoding="utf-8")

    assert Settings() == Settings.model_construct()


@pytest.mark.parametrize(
    ("value", "keys"),
    [
        (" one , two ,", ["one", "two"]),
        ("one two", ["one two"]),
        ("", []),
        ('["one"]', ['["one"]']),  # as it is: no second notation to know
    ],
)
def test_a_list_is_separated_by_commas(
    monkeypatch: pytest.MonkeyPatch, value: str, keys: list[str]
) -> None:
    """As one writes it in a shell, a compose file or a chart."""
    monkeypatch.setenv("MEDREWARD_API_KEYS", value)
    monkeypatch.setenv("MEDREWARD_RECIPES", value)

    settings = Settings()

    assert [key.get_secret_value() for key in settings.api_keys] == keys
    assert settings.recipes == tuple(map(Path, keys))


def test_models_lie_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the desktop standard says, or in ~/.cache where it says nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Settings().models_dir == tmp_path / "medreward" / "models"

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_models_dir() == tmp_path / "home" / ".cache" / "medreward" / "models"


# What is refused.


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("profile", "tpu"),
        ("port", "70000"),
        ("judge_coverage_floor", "nan"),
        ("cascade", "perhaps"),
        ("judge_timeout_s", "0"),
        ("max_samples", "0"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_field(
    monkeypatch: pytest.MonkeyPatch, field: str, value: str
) -> None:
    """The operator reads which variable to mend; of each kind of setting here is one."""
    monkeypatch.setenv(f"MEDREWARD_{field.upper()}", value)

    with pytest.raises(ValidationError) as caught:
        Settings()

    assert [error["loc"] for error in caught.value.errors()] == [(field,)]
    assert field in str(caught.value)


def test_vllm_takes_the_arguments_of_its_engine_that_are_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a JSON object; one that would run a model's own code is none of them."""
    monkeypatch.setenv("MEDREWARD_VLLM_ARGUMENTS", '{"quantization": "fp8", "max_num_seqs": 128}')
    assert Settings().vllm_arguments == {"quantization": "fp8", "max_num_seqs": 128}

    monkeypatch.setenv("MEDREWARD_VLLM_ARGUMENTS", '{"trust_remote_code": true}')
    with pytest.raises(ValidationError, match="vllm_arguments"):
        Settings()


def test_an_argument_that_is_no_setting_is_refused() -> None:
    """A misspelt name would be a silent default."""
    with pytest.raises(ValidationError, match="judge_modle"):
        Settings(judge_modle="other")  # type: ignore[call-arg]


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose and Helm write a variable that is left out as an empty one."""
    for variable in ("MEDREWARD_HOST", "MEDREWARD_PORT", "MEDREWARD_JUDGE"):
        monkeypatch.setenv(variable, "")

    assert Settings() == Settings.model_construct()


def test_a_cap_on_what_costs_nothing_is_refused() -> None:
    """It would never be reached, and whoever set it believes that it will."""
    Settings(judge_max_cost_per_day=20.0, judge_prompt_price=0.1)
    Settings(judge_max_cost_per_day=20.0, judge_completion_price=0.1)
    with pytest.raises(ValidationError, match="MEDREWARD_JUDGE_PROMPT_PRICE"):
        Settings(judge_max_cost_per_day=20.0)


@pytest.mark.parametrize(
    ("host", "keys"),
    [("0.0.0.0", ""), ("::", " , "), ("", ""), ("10.0.0.7", ""), ("medreward.internal", "")],  # noqa: S104
)
def test_beyond_loopback_a_key_is_needed(
    monkeypatch: pytest.MonkeyPatch, host: str, keys: str
) -> None:
    """The refusal names both settings that mend it."""
    monkeypatch.setenv("MEDREWARD_API_KEYS", keys)

    with pytest.raises(ValidationError) as caught:
        Settings(host=host)

    assert "MEDREWARD_API_KEYS" in str(caught.value)
    assert "MEDREWARD_ALLOW_UNAUTHENTICATED" in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"host": "::1"},
        {"host": "localhost"},
        {"host": "::", "api_keys": "sk-one"},
        {"host": "::", "allow_unauthenticated": True},
    ],
)
def test_loopback_a_key_or_an_explicit_setting_suffices(given: dict[str, Any]) -> None:
    """Only this machine can reach it, or callers are told apart here, or somebody says elsewhere."""
    assert Settings(**given).host == given["host"]


# Secrets.


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """However the settings are printed, dumped or logged."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    settings = Settings()

    shown = [
        repr(settings),
        str(settings),
        f"{settings.model_dump()}",
        settings.model_dump_json(),
        f"{settings.secret} {settings.api_keys} {settings.judge_api_key!r}",
    ]

    assert settings.api_keys[1].get_secret_value() == "sk-two"
    assert [s for s in _pieces_of_secrets() if any(s in text for text in shown)] == []


def test_a_refusal_quotes_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one beside the mistake nor one of a wrong shape: the message ends in a start-up log."""
    for name, value in {**SECRETS, "MEDREWARD_HOST": "::", "MEDREWARD_PORT": "http"}.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(ValidationError) as caught:
        Settings(judge_api_key=["sk-judge"])

    assert "judge_api_key" in str(caught.value)
    shown = f"{caught.value} {caught.value!r}"
    assert [secret for secret in _pieces_of_secrets() if secret in shown] == []


def _pieces_of_secrets() -> list[str]:
    return [piece for value in SECRETS.values() for piece in value.split(",")]


# The class.


def test_every_setting_is_described() -> None:
    """The docstring below a field is what `--help` and the documentation show."""
    described = {name: field.description or "" for name, field in Settings.model_fields.items()}

    assert [name for name, text in described.items() if not text.endswith((".", "`"))] == []


def test_a_setting_can_be_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As Kubernetes and Compose mount secrets; a line's end is no part, and the environment wins."""
    (tmp_path / "medreward_api_keys").write_text("one,two\n")
    (tmp_path / "medreward_redis_url").write_text("redis://:hunter2@cache:6379/0")
    (tmp_path / "medreward_recipe").write_text("medix-r1")
    monkeypatch.setenv("MEDREWARD_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("MEDREWARD_RECIPE", "medix-r1-guarded")

    settings = Settings()

    assert [key.get_secret_value() for key in settings.api_keys] == ["one", "two"]
    assert settings.redis_url == SecretStr("redis://:hunter2@cache:6379/0")
    assert settings.recipe == "medix-r1-guarded"


@pytest.mark.parametrize(
    "content", [b"", b" ,\r\n", b"\xef\xbb\xbf", b"\xff\xfek\x00", b":=", None]
)
def test_a_key_file_without_keys_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    """Also on loopback, and if Docker made a folder of it, since its source was missing."""
    file = tmp_path / "medreward_api_keys"
    file.mkdir() if content is None else file.write_bytes(content)
    monkeypatch.setenv("MEDREWARD_SECRETS_DIR", str(tmp_path))

    with pytest.raises(ValidationError, match="medreward_api_keys"):
        Settings(allow_unauthenticated=True)
    # What overrides the file makes it idle.
    assert Settings(api_keys="one").api_keys == (SecretStr("one"),)


@pytest.mark.parametrize("given", [" , ", "\ufeff", "ward:=", "ward:=x,x"])
def test_a_variable_without_proper_keys_is_refused(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    """A list that holds nothing would open the door, and a key read otherwise would close it."""
    monkeypatch.setenv("MEDREWARD_API_KEYS", given)

    with pytest.raises(ValidationError, match="api_keys"):
        Settings()


def test_no_secret_begins_with_a_byte_order_mark(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Editors of Windows write one in front of a file's text."""
    for name, text in (("api_keys", "one\r\n"), ("drain_token", "let-go\r\n")):
        (tmp_path / f"medreward_{name}").write_text(text, "utf-8-sig")
    monkeypatch.setenv("MEDREWARD_SECRETS_DIR", str(tmp_path))

    settings = Settings()

    assert settings.api_keys == (SecretStr("one"),)
    assert settings.drain_token == SecretStr("let-go")


def test_a_folder_of_secrets_that_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else a service without its keys would start."""
    monkeypatch.setenv("MEDREWARD_SECRETS_DIR", str(tmp_path / "nowhere"))

    with pytest.raises(ValidationError, match="there is no folder"):
        Settings()


@pytest.mark.parametrize(
    ("settings", "judge", "embedder"),
    [
        ({}, "role", "role"),
        ({"profile": "gpu"}, "role", "role"),
        ({"judge": "openai", "judge_model": "m"}, "openai", "role"),
        ({"embedder": "openai"}, "role", "openai"),
    ],
)
def test_an_api_leaves_models_to_other_processes(
    settings: dict[str, Any], judge: str, embedder: str
) -> None:
    """Whatever the profile, unless it is told which server has them."""
    chosen = Settings(role="api", **settings)

    assert chosen.judge_choice.engine == judge
    assert chosen.embedder_choice.engine == embedder
    assert chosen.llm_choice is None


def test_a_drain_takes_as_long_as_a_request_may() -> None:
    """Unless it is told otherwise."""
    assert Settings(deadline_s=33).longest_drain_s == 33
    assert Settings(deadline_s=33, drain_s=7).longest_drain_s == 7
