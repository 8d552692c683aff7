"""The settings of the service, each read from the environment as `MEDREWARD_<NAME>`."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

from medreward.api_keys import KeyRing, read_key_file, read_keys, split_keys
from medreward.samples import Limits

HttpUrl = Annotated[str, Field(pattern=r"^https?://[^\s/]+")]
REDIS_URL = re.compile(
    r"rediss?://([^\s/@]*@)?(\[[0-9a-fA-F:.]+\]|[^\s/@:\[\]?#]+)(:\d{1,5})?(/\d{0,5})?"
    r"|unix://([^\s/@]*@)?/[^\s?#]+(\?db=\d{1,5})?"
)
"""Accepts no options but the database: a timeout in the URL would override `redis_timeout_s`."""
HOST_AND_PORT = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s/@:\[\]]+):\d{1,5}")
HttpUrls = Annotated[tuple[HttpUrl, ...], NoDecode]
Headers = dict[str, SecretStr]
Money = Annotated[float, Field(ge=0)]
LOOPBACK = ("127.0.0.1", "::1", "localhost")
Role = Literal["all", "api", "judge", "embed"]
ExamSetting = Literal["auto", "off", "on", "require"]
VllmArgument = Literal[
    "async_scheduling",
    "attention_backend",
    "cpu_offload_gb",
    "disable_cascade_attn",
    "disable_custom_all_reduce",
    "enable_chunked_prefill",
    "enable_expert_parallel",
    "kv_cache_dtype",
    "max_num_batched_tokens",
    "max_num_seqs",
    "quantization",
    "safetensors_load_strategy",
]
"""Arguments of vLLM's engine that can be set: none that runs code of a model or writes prompts to a log."""


class Choice(NamedTuple):
    """An engine, and the model that it loads."""

    engine: str
    model: str


class Profile(NamedTuple):
    """The engines of one kind of machine."""

    judge: Choice
    embedder: Choice
    device: str
    llm: Choice | None = None
    """A second engine, with a language model, if the judge follows no instructions."""
    other_judge: Choice | None = None
    """The judge's model in another engine, used if `judge` names that engine."""
    cascade: bool = False
    """Whether `llm` is also asked if the judge is not sure."""


ProfileName = Literal["embedded", "embedded-small", "gpu", "remote"]

PROFILES: dict[ProfileName, Profile] = {
    # A CPU, models that come in ordinary packages: a verifier that knows medical terms, and a
    # language model that reads answers, reports and rubrics.
    "embedded": Profile(
        judge=Choice("cross_encoder", "medreward-verifier"),
        llm=Choice("causal_lm", "qwen2.5-coder-1.5b-instruct"),
        cascade=True,
        embedder=Choice("sentence_transformer", "all-minilm-l6-v2"),
        device="cpu",
    ),
    # The same without the language model, for a small machine: it judges sentences like terms.
    "embedded-small": Profile(
        judge=Choice("cross_encoder", "medreward-verifier"),
        embedder=Choice("sentence_transformer", "all-minilm-l6-v2"),
        device="cpu",
    ),
    # One GPU, models from a hub: the judge in vLLM, the embedder in this process.
    "gpu": Profile(
        judge=Choice("vllm", "Qwen/Qwen3-4B-Instruct-2507"),
        other_judge=Choice("causal_lm", "Qwen/Qwen3-4B-Instruct-2507"),
        embedder=Choice("sentence_transformer", "abhinand/MedEmbed-large-v0.1"),
        device="cuda",
    ),
    # Servers with OpenAI's protocol; this process loads no model.
    "remote": Profile(
        judge=Choice("openai", "Qwen/Qwen3-4B-Instruct-2507"),
        embedder=Choice("openai", "abhinand/MedEmbed-large-v0.1"),
        device="cpu",
    ),
}


ELSEWHERE = Choice("role", "")
"""An engine in another medreward process, whose own settings name its model."""


def default_models_dir() -> Path:
    """Return the default folder for fetched models."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "medreward" / "models"


def _items(value: object) -> object:
    """Split a comma-separated list from the environment."""
    if isinstance(value, str):
        return tuple(item.strip() for item in value.split(",") if item.strip())
    return value


class SecretFiles(SecretsSettingsSource):
    """Settings as files of one folder; for the API keys it gives their file, which is read again."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the value of a setting, its name, and whether it still has to be decoded."""
        if field_name == "api_keys":
            (folder,) = self.secrets_paths
            # Also a folder or a broken link of that name: it must not stand for "no keys".
            file = self.find_case_path(folder, f"medreward_{field_name}", case_sensitive=False)
            return file, field_name, False
        value, name, is_complex = super().get_field_value(field, field_name)
        return value.removeprefix("\ufeff") if value else value, name, is_complex


class Settings(BaseSettings):
    """All settings of one process; frozen once they are read."""

    model_config = SettingsConfigDict(
        env_prefix="MEDREWARD_",
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        # Compose and Helm write an empty variable for a value that is left out.
        env_ignore_empty=True,
        # Validation errors are printed at start-up, and would quote API keys from the input.
        hide_input_in_errors=True,
    )

    role: Role = "all"
    """Role of this process: `all` does everything; `api` answers requests and loads no model; `judge`
    and `embed` load one model each, and serve any number of `api` processes."""
    profile: ProfileName = "embedded"
    """Set of defaults for the engines, models and device below. Which one is in force never follows
    from the machine: `embedded` needs more memory than `embedded-small`, and is refused without."""

    judge: str | None = None
    """Engine of the judge: causal_lm, cross_encoder, vllm, openai, role (another medreward process,
    with MEDREWARD_ROLE=judge) or scripted."""
    judge_model: str | None = None
    """Model of the judge: a name in `medreward models list`, a folder, or a Hugging Face id."""
    judge_revision: str | None = None
    """Revision of a Hugging Face model, best a commit."""
    llm: str | None = None
    """Second engine, with a language model for templates that the judge cannot answer, and in a
    cascade for what it is not sure of: causal_lm, vllm or openai. By default the profile's; if
    `judge` is set, none by default."""
    llm_model: str | None = None
    """Model of the second engine, in the form of `judge_model`."""
    llm_revision: str | None = None
    """Revision of the second engine's model, in the form of `judge_revision`."""
    cascade: bool | None = None
    """Ask the second engine if the judge is not sure; by default the profile's choice, and not if
    `judge` is set."""
    cascade_shadow: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Share of the judge's sure answers that the second engine is asked too, to measure how often
    they agree."""
    calibration: Annotated[Literal["off"] | Path | None, Field(union_mode="left_to_right")] = None
    """Calibration of the judge's probabilities, written by `medreward calibrate`. By default the one
    that comes with the model, if it has one; `off` uses none, and no readout of the model either."""
    abstain: bool | None = None
    """Let the judge leave a sample without a verdict if it is not sure; by default only if
    `calibration` names a file, or in a cascade."""
    judge_url: HttpUrls = ()
    """Base URL of the openai engine, ending in /v1, or of the role engine, such as
    http://judge:8080. Several servers of one model, separated by commas, share the work. This and
    the next settings apply to the judge or the second engine, whichever is behind a server."""
    judge_api_key: SecretStr | None = None
    """Key of the openai or role engine."""
    judge_api_key_file: Path | None = None
    """File with that key; it is read again when a server refuses the key."""
    judge_headers: Headers = Field(default_factory=dict)
    """Additional headers of the openai engine's requests, as a JSON object."""
    judge_way: Literal["auto", "completions", "chat"] = "auto"
    """Request format of the openai engine; auto uses the cheapest that every server supports."""
    judge_coverage_floor: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Least probability of all labels together; below it the judge's reply counts as unreadable."""
    judge_max_prompt_tokens: Annotated[int, Field(ge=256)] = 2048
    """Tokens of a prompt that a judge in this process accepts; a longer one is `too_long`."""
    causal_lm_dtype: Literal["bfloat16", "float32"] | None = None
    """Precision of the causal_lm engine's arithmetic; by default bfloat16 on a GPU and on processors
    that compute with it (AMX, AVX512-BF16, ARM's BF16), else float32."""
    judge_positive_label: str | None = None
    """Label of a cross_encoder that means YES, if its labels do not show it."""
    exam: ExamSetting = "auto"
    """Exam of the judge at the start, in the background: auto examines models in this process, on also
    a judge behind a server, which costs some 60 judgements. Both only warn of a judge that fails.
    With require the service is not ready until the exam is passed, and ends if it is not. off takes
    none."""
    judge_timeout_s: Annotated[float, Field(gt=0)] = 120.0
    """Seconds that one batch of judgements may take."""
    judge_try_timeout_s: Annotated[float, Field(gt=0)] | None = None
    """Seconds that one request to one server may take before it is retried elsewhere; by default all
    of `judge_timeout_s`, or a third of it with several servers."""
    judge_requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    """Most requests to a paid judge in a minute, from this process."""
    judge_tokens_per_minute: Annotated[int, Field(ge=1)] | None = None
    """Most tokens to a paid judge in a minute, from this process; estimated before they are sent."""
    judge_prompt_price: Money = 0.0
    """Price of a million prompt tokens."""
    judge_completion_price: Money = 0.0
    """Price of a million completion tokens."""
    judge_max_cost_per_day: Money | None = None
    """Most money that this process spends a day; then questions are refused until midnight UTC."""

    vllm_tensor_parallel: Annotated[int, Field(ge=1)] = 1
    """GPUs over which each copy of the vllm engine's model is split."""
    vllm_data_parallel: Annotated[int, Field(ge=1)] = 1
    """Copies of the vllm engine's model."""
    vllm_gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of a GPU's memory that each vllm engine takes; by default computed from the free memory
    once the embedder is loaded, at most 0.9."""
    vllm_kv_cache_gib: Annotated[float, Field(gt=0)] | None = None
    """GiB of the vllm engine's prefix cache; by default the rest of its share of a GPU, or 2."""
    vllm_dtype: Literal["auto", "bfloat16", "float16", "float32"] | None = None
    """Precision of the vllm engine; by default the model's own (auto), and float32 on a CPU."""
    vllm_enforce_eager: bool | None = None
    """Run the vllm engine's model uncompiled, which starts sooner; by default only on a CPU."""
    vllm_arguments: dict[VllmArgument, str | int | float | bool] = Field(default_factory=dict)
    """Further arguments of vLLM's engine, as a JSON object such as `{"quantization": "fp8"}`; which
    ones can be set is in docs/vllm.md. They are part of the judge's identity."""

    embedder: str | None = None
    """Engine of the embedder: sentence_transformer, openai, role (another medreward process, with
    MEDREWARD_ROLE=embed) or hashed."""
    embedder_model: str | None = None
    """Model of the embedder, in the form of `judge_model`."""
    embedder_revision: str | None = None
    """Revision of the embedder's model, in the form of `judge_revision`."""
    embedder_url: HttpUrls = ()
    """Base URL of the embedder's openai or role engine, in the form of `judge_url`."""
    embedder_api_key: SecretStr | None = None
    """Key of the embedder's openai or role engine."""
    embedder_api_key_file: Path | None = None
    """File with that key; it is read again when a server refuses the key."""
    embedder_headers: Headers = Field(default_factory=dict)
    """Additional headers of the embedder's requests, as a JSON object."""
    embedder_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """Seconds that one batch of embeddings may take."""
    embedder_try_timeout_s: Annotated[float, Field(gt=0)] | None = None
    """Seconds that one request to one server may take before it is retried elsewhere; by default all
    of `embedder_timeout_s`, or a third of it with several servers."""

    ready_when_degraded: bool = False
    """Stay ready if an engine behind a server is lost: `/readyz` answers 200 with `degraded`, caches and
    rules give rewards, and other samples are unscored. By default such a service is not ready."""
    lost_engine_s: Annotated[float, Field(ge=0)] = 1800.0
    """Seconds after which the process ends with exit code 1 if an engine that it holds itself is lost
    and does not come back, so that it is started again; longer than the engine takes to start. 0 never
    ends it, and engines behind servers never do."""

    device: str | None = None
    """Device of models in this process: cpu, cuda, cuda:1, mps."""
    torch_threads: Annotated[int, Field(ge=1)] | None = None
    """Threads of torch on the CPU; by default the number of cores."""
    models_dir: Path = Field(default_factory=default_models_dir)
    """Folder into which `medreward models fetch` downloads models."""

    recipe: str = "medix-r1-guarded"
    """Recipe of requests without one."""
    recipes: Annotated[tuple[Path, ...], NoDecode] = ()
    """Files and folders with recipes of your own, separated by commas."""
    signals: Annotated[tuple[str, ...], NoDecode] = ()
    """Signals of your own for recipes, such as `brevity=my_signals:BREVITY`, separated by commas: a
    name, and the import path of a `SignalKind`. Their values are computed in a process of their own."""
    signals_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """Seconds that a signal of your own may take for up to 32 samples."""
    signals_memory_bytes: Annotated[int, Field(ge=1_048_576)] = 1024 * 1024 * 1024
    """Memory that the process of your own signals may take beside that of their modules."""
    secret: SecretStr = SecretStr("")
    """Secret that makes the prompt fence's nonce hard to guess; the same on all replicas."""

    host: str = "127.0.0.1"
    """Address to listen on; `::` is every address of the machine, of IPv4 too."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Port to listen on; 0 takes a free one."""
    admin_port: Annotated[int | None, Field(ge=0, le=65535)] = None
    """Separate port for probes, metrics and drain. It checks no keys: never expose it. Without it,
    probes and metrics are on `port`, and `POST /drain` is not available."""
    admin_host: str | None = None
    """Address of that port; by default `host`."""
    drain_token: SecretStr | None = None
    """Token that `POST /drain` on the admin port requires as `Authorization: Bearer …`; without it,
    all drain requests are refused."""
    drain_delay_s: Annotated[float, Field(ge=0, le=600)] = 0.0
    """Seconds for which a draining service, already reported as unready, still accepts requests:
    load balancers need time to notice."""
    drain_s: Annotated[float | None, Field(gt=0)] = None
    """Seconds for which it then waits for the requests in flight; by default `deadline_s`."""
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """Keys accepted as `Authorization: Bearer …`, separated by commas; without any, auth is off. A key
    written as `name:=key` keeps cache and runs when it is replaced by another of that name. As a file
    in `secrets_dir` they are read again when the file changes."""
    allow_unauthenticated: bool = False
    """Allow listening beyond loopback without keys."""
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Further host names of this service, separated by commas. Without keys, requests of web pages of
    other hosts are refused, and on loopback also those to names but `localhost` and addresses."""

    max_samples: Annotated[int, Field(ge=1)] = 16_384
    """Most samples or items in one request."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 64 * 1024**2
    """Most bytes of one request's body."""
    body_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """Seconds in which a request's body has to arrive."""
    head_timeout_s: Annotated[float, Field(gt=0)] = 20.0
    """Seconds in which the head of a request has to arrive; a later one gets 408."""
    reply_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """Seconds in which a caller has to read a reply."""
    idle_timeout_s: Annotated[float, Field(gt=0)] = 120.0
    """Seconds for which an idle connection is kept; longer than load balancers keep theirs, which
    could otherwise send a request into a connection that closes."""
    max_connections: Annotated[int, Field(ge=1)] = 8192
    """Most open connections; more get 503. They are fewer if the process may have few files open."""
    max_response_bytes: Annotated[int, Field(ge=1)] = 256 * 1024
    """Most bytes of one sample's response; a longer one is `too_long`."""
    max_text_bytes: Annotated[int, Field(ge=1)] = 16 * 1024
    """Most bytes of a question, reference, answer or criterion; a longer one is `too_long`."""
    max_votes: Annotated[int, Field(ge=1, le=5)] = 5
    """Most votes of a request; with one judge at most three differ."""
    max_requests_in_flight: Annotated[int, Field(ge=1)] = 4096
    """Most requests in flight; more get 429."""
    max_questions_in_flight: Annotated[int, Field(ge=1)] = 65_536
    """Most questions of all requests in flight; more get 429. A sample counts one for each of its
    references and criteria, a group two for each pair that `group_rank` compares, and an item one for
    each vote and criterion."""
    max_bytes_in_flight: Annotated[int, Field(ge=1024)] = 256 * 1024**2
    """Most memory for the bodies and replies of all requests in flight, in bytes, estimated from a
    body's bytes; more get 429, and a body that alone takes more gets 413. Text takes three times its
    length, up to nine times with unusual characters, and a sample a kilobyte more."""
    deadline_s: Annotated[float, Field(gt=0)] = 120.0
    """Seconds until the deadline of a request that sets none."""
    max_deadline_s: Annotated[float, Field(gt=0)] = 3600.0
    """Longest deadline that a request may set, in seconds."""
    judgement_cache_bytes: Annotated[int, Field(ge=0)] = 64 * 1024**2
    """Bytes of judgements cached in memory; one takes about 200."""
    embedding_cache_bytes: Annotated[int, Field(ge=0)] = 256 * 1024**2
    """Bytes of embeddings cached in memory; one of 1,024 numbers takes about 2,300."""
    text_cache_bytes: Annotated[int, Field(ge=0)] = 64 * 1024**2
    """Bytes of the samples, texts and words that rules and guards have analysed and remember, by estimate."""
    share_cache_between_keys: bool = False
    """Share cached answers between callers with different keys; by default each key has its own."""

    redis_url: SecretStr | None = None
    """Redis through which replicas share their cache: `redis://`, `rediss://` (TLS) or `unix://`,
    with user, password and database if it needs them. Without it, each caches in memory only."""
    redis_mode: Literal["standalone", "sentinel", "cluster"] = "standalone"
    """Kind of Redis behind the URL. With sentinel, the URL's host and port are a sentinel's, and its
    user, password and database are the master's; with cluster, they are those of any node."""
    redis_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Further sentinels or cluster nodes, as `host:port`, separated by commas."""
    redis_sentinel_master: str = "mymaster"
    """Name of the master in the sentinels' configuration."""
    redis_sentinel_password: SecretStr | None = None
    """Password of the sentinels themselves."""
    redis_password_file: Path | None = None
    """File with the password of Redis; it is read again whenever the service reconnects."""
    redis_ca_file: Path | None = None
    """Certificates that sign the server's; by default those of this system."""
    redis_cert_file: Path | None = None
    """Certificate of this client."""
    redis_key_file: Path | None = None
    """Key of `redis_cert_file`."""
    redis_tls_check: Literal["full", "chain", "none"] = "full"
    """Check of the server's certificate: chain and name, the chain alone, or none."""
    redis_timeout_s: Annotated[float, Field(gt=0, le=10)] = 0.2
    """Seconds that a request waits for Redis; then it continues without Redis, and so do others until
    Redis answers again."""
    cache_ttl_s: Annotated[int, Field(ge=1)] = 30 * 24 * 3600
    """Seconds after its last write for which Redis keeps an entry."""
    lease_s: Annotated[float, Field(ge=0.1, le=300)] = 5.0
    """Seconds without renewal after which another replica takes over a question from a dead one."""

    traces: bool = False
    """Send spans to the OpenTelemetry collector that the standard OTEL_* variables name. Needs the
    extra `otel`. No span contains a sample's text."""
    secrets_dir: Path | None = None
    """Folder with settings as files, as Kubernetes and Compose mount secrets: each named like its
    variable in lower case, such as `medreward_api_keys`. The environment overrides a file."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity that is logged. No level logs a sample's text."""
    log_format: Literal["json", "console"] = "json"
    """Format of the log: one JSON object a line, or text for people."""

    _api_keys_file: Path | None = PrivateAttr(default=None)
    """The file from which `api_keys` came."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the same
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources by priority: arguments, the environment, then the folder of secrets."""
        folder = os.environ.get("MEDREWARD_SECRETS_DIR", "")
        # A missing folder is skipped here, since the validator of `secrets_dir` has the better message.
        is_there = folder and Path(folder).is_dir()
        files = [SecretFiles(settings_cls, folder)] if is_there else []
        return init_settings, env_settings, *files

    _split_lists = field_validator(
        "recipes",
        "signals",
        "allowed_hosts",
        "judge_url",
        "embedder_url",
        "redis_hosts",
        mode="before",
    )(_items)

    @model_validator(mode="wrap")
    @classmethod
    def _note_keys_file(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        settings = handler(values)
        given = values.get("api_keys") if isinstance(values, dict) else None
        # A validator of the class stands outside of the object that it makes.
        settings._api_keys_file = given if isinstance(given, Path) else None  # noqa: SLF001
        return settings

    @field_validator("api_keys", mode="before")
    @classmethod
    def _read_api_keys(cls, given: object) -> object:
        if isinstance(given, Path):
            return [key.written for key in read_key_file(given)]
        if not isinstance(given, str):
            return given
        if given and not split_keys(given):
            raise ValueError(
                "MEDREWARD_API_KEYS holds no key: leave it out to let anyone score, which beyond "
                "loopback needs MEDREWARD_ALLOW_UNAUTHENTICATED=true"
            )
        return split_keys(given)

    @field_validator("api_keys")
    @classmethod
    def _api_keys_are_some(cls, given: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        read_keys([key.get_secret_value() for key in given])
        return given

    @field_validator("secrets_dir")
    @classmethod
    def _secrets_dir_is_one(cls, folder: Path | None) -> Path | None:
        if folder is not None and not folder.is_dir():
            raise ValueError(f"there is no folder {folder}; mount the secrets there")
        return folder

    @field_validator("redis_url")
    @classmethod
    def _redis_url_is_one(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not REDIS_URL.fullmatch(url.get_secret_value()):
            # The message must not quote the URL, which may contain a password.
            raise ValueError("has to be redis://host:port/database, rediss://… or unix:///path")
        return url

    @field_validator("redis_hosts")
    @classmethod
    def _redis_hosts_are_some(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if not HOST_AND_PORT.fullmatch(host):
                raise ValueError("has to be host:port, separated by commas")
        return hosts

    @model_validator(mode="after")
    def _settings_agree(self) -> Self:
        for contradiction in self._contradictions():
            raise ValueError(contradiction)
        return self

    def _contradictions(self) -> Iterator[str]:
        """Yield what is wrong with several settings together, each with its remedy."""
        url = self.redis_url.get_secret_value() if self.redis_url is not None else ""
        if self.redis_mode != "standalone" and not url:
            yield f"MEDREWARD_REDIS_MODE={self.redis_mode} needs MEDREWARD_REDIS_URL"
        if self.redis_mode != "standalone" and url.startswith("unix:"):
            yield f"MEDREWARD_REDIS_MODE={self.redis_mode} needs redis:// or rediss://"
        if self.redis_mode == "standalone" and self.redis_hosts:
            yield "MEDREWARD_REDIS_HOSTS is for MEDREWARD_REDIS_MODE=sentinel or cluster"
        is_free = self.judge_prompt_price == 0 and self.judge_completion_price == 0
        if is_free and self.judge_max_cost_per_day is not None:
            yield (
                "a cap on the judge's cost is never reached without a price: "
                "set MEDREWARD_JUDGE_PROMPT_PRICE or MEDREWARD_JUDGE_COMPLETION_PRICE"
            )
        if self.llm_choice is None and (self.cascade or self.llm_model):
            name = "CASCADE" if self.cascade else "LLM_MODEL"
            yield f"MEDREWARD_{name} is for a language model beside the judge: set MEDREWARD_LLM"
        if self.host not in LOOPBACK and not self.api_keys and not self.allow_unauthenticated:
            yield (
                f"listening on {self.host} lets anyone score: set MEDREWARD_API_KEYS, "
                "or MEDREWARD_ALLOW_UNAUTHENTICATED=true if something in front checks keys"
            )
        if self.deadline_s > self.max_deadline_s:
            yield "MEDREWARD_DEADLINE_S is over MEDREWARD_MAX_DEADLINE_S; raise that too"

    @property
    def key_ring(self) -> KeyRing:
        """The API keys, with the file that may replace them."""
        keys = read_keys([key.get_secret_value() for key in self.api_keys])
        return KeyRing(keys, self._api_keys_file, shares_cache=self.share_cache_between_keys)

    @property
    def judge_choice(self) -> Choice:
        """The judge's engine and model: those set, else the role's or the profile's."""
        if self.role == "api" and self.judge is None:
            return ELSEWHERE
        profile = PROFILES[self.profile]
        # If `judge` names the engine of another model of the profile, that model is the judge.
        known = (profile.judge, profile.llm, profile.other_judge)
        named = (c for c in known if c and c.engine == self.judge)
        return _choose(next(named, profile.judge), self.judge, self.judge_model)

    @property
    def llm_choice(self) -> Choice | None:
        """The second engine and its model; None without a second engine."""
        default = PROFILES[self.profile].llm if self._has_profile_judge else None
        if default is not None:
            return _choose(default, self.llm, self.llm_model)
        return None if self.llm is None else Choice(self.llm, self.llm_model or "")

    @property
    def escalates(self) -> bool:
        """True if the second engine is also asked what the judge is not sure of."""
        if self.cascade is not None:
            return self.cascade
        return self._has_profile_judge and PROFILES[self.profile].cascade

    @property
    def _has_profile_judge(self) -> bool:
        return self.judge is None and self.role in {"all", "judge"}

    @property
    def choices(self) -> dict[str, Choice]:
        """The engines of a process of this role: `judge`, `llm` and `embedder`, as far as it has them."""
        choices = {
            "judge": self.judge_choice,
            "llm": self.llm_choice,
            "embedder": self.embedder_choice,
        }
        left_out = {"judge": {"embedder"}, "embed": {"judge", "llm"}}.get(self.role, set())
        return {name: c for name, c in choices.items() if c is not None and name not in left_out}

    @property
    def calibration_file(self) -> Path | None:
        """The calibration that this deployment names; None for the model's own, and for `off`."""
        return self.calibration if isinstance(self.calibration, Path) else None

    @property
    def abstains(self) -> bool:
        """True if the judge may leave a sample without a verdict."""
        is_wanted = self.escalates or self.calibration_file is not None
        return is_wanted if self.abstain is None else self.abstain

    @property
    def embedder_choice(self) -> Choice:
        """The embedder's engine and model: those set, else the role's or the profile's."""
        if self.role == "api" and self.embedder is None:
            return ELSEWHERE
        return _choose(PROFILES[self.profile].embedder, self.embedder, self.embedder_model)

    @property
    def longest_drain_s(self) -> float:
        """Seconds to wait for the requests in flight."""
        return self.deadline_s if self.drain_s is None else self.drain_s

    @property
    def limits(self) -> Limits:
        """The limits on the texts of one sample, in bytes."""
        return Limits(self.max_response_bytes, self.max_text_bytes)

    @property
    def torch_device(self) -> str:
        """The device of models in this process: the one set, or the profile's."""
        return self.device or PROFILES[self.profile].device


def _choose(default: Choice, engine: str | None, model: str | None) -> Choice:
    """Return the profile's choice if *engine* agrees with it; another engine needs its own *model*."""
    if engine is None or engine == default.engine:
        return Choice(default.engine, model or default.model)
    return Choice(engine, model or "")
