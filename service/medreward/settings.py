"""Every setting, once: each is read from the environment as `MEDREWARD_<NAME>`."""

import os
import re
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

from medreward.samples import Limits

HttpUrl = Annotated[str, Field(pattern=r"^https?://[^\s/]+")]
REDIS_URL = re.compile(
    r"rediss?://([^\s/@]*@)?(\[[0-9a-fA-F:.]+\]|[^\s/@:\[\]?#]+)(:\d{1,5})?(/\d{0,5})?"
    r"|unix://([^\s/@]*@)?/[^\s?#]+(\?db=\d{1,5})?"
)
"""No options but the database: a time-out set in a URL would undo ours."""
HOST_AND_PORT = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s/@:\[\]]+):\d{1,5}")
HttpUrls = Annotated[tuple[HttpUrl, ...], NoDecode]
Headers = dict[str, SecretStr]
Money = Annotated[float, Field(ge=0)]
LOOPBACK = ("127.0.0.1", "::1", "localhost")
Role = Literal["all", "api", "judge", "embed"]


class Choice(NamedTuple):
    """Which engine answers, with which model."""

    engine: str
    model: str


class Profile(NamedTuple):
    """The engines of one kind of machine."""

    judge: Choice
    embedder: Choice
    device: str
    llm: Choice | None = None
    """A language model beside the judge, where that understands no instructions."""
    other_judge: Choice | None = None
    """The judge's model in another engine, if `judge` names that."""


PROFILES = {
    # A laptop: small models that come in ordinary packages. The judge is a verifier of medical
    # answers; the language model beside it shows the machinery, and is not to train on.
    "embedded": Profile(
        judge=Choice("cross_encoder", "medreward-verifier"),
        llm=Choice("causal_lm", "smollm2-135m-instruct"),
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
    # Servers that speak OpenAI's protocol; this process holds no model.
    "remote": Profile(
        judge=Choice("openai", "Qwen/Qwen3-4B-Instruct-2507"),
        embedder=Choice("openai", "abhinand/MedEmbed-large-v0.1"),
        device="cpu",
    ),
}


ELSEWHERE = Choice("role", "")
"""An engine in another process of ours, which knows its model by itself."""


def default_models_dir() -> Path:
    """The folder for fetched models where no setting names one."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "medreward" / "models"


def _items(value: object) -> object:
    """Split a comma-separated list, as environments have it."""
    if isinstance(value, str):
        return tuple(item.strip() for item in value.split(",") if item.strip())
    return value


class Settings(BaseSettings):
    """Everything the environment decides."""

    model_config = SettingsConfigDict(
        env_prefix="MEDREWARD_",
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        # Compose and Helm write a variable that is left out as an empty one.
        env_ignore_empty=True,
        # A refusal is printed at start-up, and would quote keys that stand beside the mistake.
        hide_input_in_errors=True,
    )

    role: Role = "all"
    """What this process does: all of it, or its part where several share the work. `api` answers
    requests and holds no model; `judge` and `embed` hold one each, for any number of `api`."""
    profile: Literal["embedded", "gpu", "remote"] = "embedded"
    """Which engines and models are the defaults of the settings below."""

    judge: str | None = None
    """Engine of the judge: causal_lm, cross_encoder, vllm, openai, role (another process of ours,
    with MEDREWARD_ROLE=judge) or scripted."""
    judge_model: str | None = None
    """Name of a model in `medreward models list`, a folder, or a Hugging Face id."""
    judge_revision: str | None = None
    """Revision of a Hugging Face model; a commit is best."""
    llm: str | None = None
    """Engine of a language model beside the judge, which answers what the judge cannot: causal_lm,
    vllm or openai. By default the profile's, and none where `judge` is set."""
    llm_model: str | None = None
    """As `judge_model`."""
    llm_revision: str | None = None
    """As `judge_revision`."""
    cascade: bool = False
    """Ask the language model what the judge is not sure of."""
    cascade_shadow: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Share of the judge's sure answers that the language model is asked too, to measure how often
    they agree."""
    calibration: Annotated[Literal["off"] | Path | None, Field(union_mode="left_to_right")] = None
    """File of `medreward calibrate` that says what the judge's probabilities are worth; by default
    the one that comes with the model, if any, and with `off` none at all."""
    abstain: bool | None = None
    """Whether the judge may leave a sample without a verdict where it is not sure; by default where
    `calibration` names a file, or with `cascade`."""
    judge_url: HttpUrls = ()
    """Base URL of the openai engine, ending in /v1, or of the role engine, such as
    http://judge:8080; several with the same model, separated by commas, share the work. This and
    what follows serves whichever of judge and language model is behind a server."""
    judge_api_key: SecretStr | None = None
    """Key of the openai or role engine."""
    judge_api_key_file: Path | None = None
    """File with that key; it is read anew when a server refuses the key."""
    judge_headers: Headers = Field(default_factory=dict)
    """Further headers of the openai engine's requests, as a JSON object."""
    judge_way: Literal["auto", "completions", "chat"] = "auto"
    """How the openai engine asks; auto takes the cheapest way that every server knows."""
    judge_coverage_floor: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Least probability on any label at all; below it the judge said nothing readable."""
    judge_max_prompt_tokens: Annotated[int, Field(ge=256)] = 2048
    """Tokens of a prompt that a judge in this process reads; a longer one is `too_long`."""
    judge_positive_label: str | None = None
    """Label of a cross_encoder that means YES, where its labels do not say so themselves."""
    judge_timeout_s: Annotated[float, Field(gt=0)] = 120.0
    """Seconds one batch of judgements may take."""
    judge_try_timeout_s: Annotated[float, Field(gt=0)] | None = None
    """Seconds one request to one server may take before it is tried elsewhere; by default all of
    `judge_timeout_s`, or a third of it with several servers."""
    judge_requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    """Requests a minute to a paid judge, from this process."""
    judge_tokens_per_minute: Annotated[int, Field(ge=1)] | None = None
    """Tokens a minute to a paid judge, from this process; estimated before they are sent."""
    judge_prompt_price: Money = 0.0
    """Money for a million tokens of prompts."""
    judge_completion_price: Money = 0.0
    """Money for a million tokens of replies."""
    judge_max_cost_per_day: Money | None = None
    """Money after which all questions are refused until midnight UTC; of this process."""

    vllm_tensor_parallel: Annotated[int, Field(ge=1)] = 1
    """GPUs that share each copy of the vllm engine's model."""
    vllm_data_parallel: Annotated[int, Field(ge=1)] = 1
    """Copies of the vllm engine's model."""
    vllm_gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of a GPU's memory that each vllm engine takes; by default computed from what is free
    once the embedder is loaded, at most 0.9."""
    vllm_kv_cache_gib: Annotated[float, Field(gt=0)] | None = None
    """GiB of the vllm engine's prefix cache; by default the rest of its share of a GPU, or 2."""
    vllm_dtype: Literal["auto", "bfloat16", "float16", "float32"] | None = None
    """Precision of the vllm engine; by default the model's own (auto), and float32 on a CPU."""
    vllm_enforce_eager: bool | None = None
    """Run the vllm engine's model uncompiled: starts sooner; by default only on a CPU."""

    embedder: str | None = None
    """Engine of the embedder: sentence_transformer, openai, role (another process of ours, with
    MEDREWARD_ROLE=embed) or hashed."""
    embedder_model: str | None = None
    """As `judge_model`."""
    embedder_revision: str | None = None
    """As `judge_revision`."""
    embedder_url: HttpUrls = ()
    """As `judge_url`."""
    embedder_api_key: SecretStr | None = None
    """As `judge_api_key`."""
    embedder_api_key_file: Path | None = None
    """As `judge_api_key_file`."""
    embedder_headers: Headers = Field(default_factory=dict)
    """As `judge_headers`."""
    embedder_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """Seconds one batch of embeddings may take."""
    embedder_try_timeout_s: Annotated[float, Field(gt=0)] | None = None
    """As `judge_try_timeout_s`."""

    device: str | None = None
    """Where models in this process run: cpu, cuda, cuda:1, mps."""
    torch_threads: Annotated[int, Field(ge=1)] | None = None
    """Threads of torch on the CPU; by default as many as there are cores."""
    models_dir: Path = Field(default_factory=default_models_dir)
    """Where `medreward models fetch` keeps models."""

    recipe: str = "medix-r1-guarded"
    """Recipe of requests that name none."""
    recipes: Annotated[tuple[Path, ...], NoDecode] = ()
    """Files and folders with recipes of your own, separated by commas."""
    secret: SecretStr = SecretStr("")
    """Makes the prompt fence's nonce hard to guess; the same on all replicas."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Port to listen on; 0 takes a free one."""
    admin_port: Annotated[int | None, Field(ge=0, le=65535)] = None
    """Port of its own for probes, metrics and drain, without keys: never for the world. Without
    one, probes and metrics are on `port`, and nothing drains by request."""
    admin_host: str | None = None
    """Address of that port; by default `host`."""
    drain_token: SecretStr | None = None
    """What `POST /drain` on the admin port has to send as `Authorization: Bearer …`; without one,
    it is refused."""
    drain_delay_s: Annotated[float, Field(ge=0, le=600)] = 0.0
    """Seconds for which a service that was told to end, and says so in its readiness, still takes
    requests: whoever sends them has to notice first."""
    drain_s: Annotated[float | None, Field(gt=0)] = None
    """Seconds it then waits for the requests in flight; by default `deadline_s`."""
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """Keys accepted as `Authorization: Bearer …`, separated by commas; none turns auth off."""
    allow_unauthenticated: bool = False
    """Listen beyond loopback without a key."""

    max_samples: Annotated[int, Field(ge=1)] = 16_384
    """Samples or items in one request."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 64 * 1024**2
    """Bytes of one request's body."""
    body_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """Seconds in which a request's body has to arrive."""
    max_response_bytes: Annotated[int, Field(ge=1)] = 256 * 1024
    """Bytes of one sample's response; a longer one is `too_long`."""
    max_text_bytes: Annotated[int, Field(ge=1)] = 16 * 1024
    """Bytes of a question, reference, answer or criterion; a longer one is `too_long`."""
    max_votes: Annotated[int, Field(ge=1, le=5)] = 5
    """Votes a request may ask for; with one judge at most three differ."""
    max_requests_in_flight: Annotated[int, Field(ge=1)] = 4096
    """Requests served at once; more get 429."""
    max_questions_in_flight: Annotated[int, Field(ge=1)] = 65_536
    """Questions of all requests served at once; more get 429. A sample asks one for each of its
    references, an item one for each vote and criterion."""
    max_bytes_in_flight: Annotated[int, Field(ge=1024)] = 256 * 1024**2
    """Body bytes of all requests served at once; more get 429."""
    deadline_s: Annotated[float, Field(gt=0)] = 120.0
    """Deadline of requests that name none."""
    max_deadline_s: Annotated[float, Field(gt=0)] = 3600.0
    """Longest deadline a request may name."""
    judgement_cache_bytes: Annotated[int, Field(ge=0)] = 64 * 1024**2
    """Bytes of judgements remembered in memory; one takes about 200."""
    embedding_cache_bytes: Annotated[int, Field(ge=0)] = 256 * 1024**2
    """Bytes of embeddings remembered in memory; one of 1,024 numbers takes about 2,300."""
    share_cache_between_keys: bool = False
    """Let callers with different keys share what was judged; else each key has its own part."""

    redis_url: SecretStr | None = None
    """Redis that replicas share what they remember through: `redis://`, `rediss://` (TLS) or
    `unix://`, with user, password and database if it needs them. Without it, memory alone."""
    redis_mode: Literal["standalone", "sentinel", "cluster"] = "standalone"
    """What answers there. With sentinel, the URL's host and port are a sentinel's, and its user,
    password and database are the master's; with cluster, they are those of any node."""
    redis_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Further sentinels or cluster nodes, as `host:port`, separated by commas."""
    redis_sentinel_master: str = "mymaster"
    """Name under which the sentinels know the master."""
    redis_sentinel_password: SecretStr | None = None
    """Password of the sentinels themselves."""
    redis_password_file: Path | None = None
    """File that holds the password; read at each new start of the connection."""
    redis_ca_file: Path | None = None
    """Certificates that sign the server's; by default those of this system."""
    redis_cert_file: Path | None = None
    """Certificate that this client shows."""
    redis_key_file: Path | None = None
    """Key of `redis_cert_file`."""
    redis_tls_check: Literal["full", "chain", "none"] = "full"
    """What is checked of the server's certificate: chain and name, the chain alone, or nothing."""
    redis_timeout_s: Annotated[float, Field(gt=0, le=10)] = 0.2
    """Seconds a request waits for Redis; then it goes on without, and so do others until Redis
    answers again."""
    cache_ttl_s: Annotated[int, Field(ge=1)] = 30 * 24 * 3600
    """Seconds for which Redis keeps what nobody wrote again."""
    lease_s: Annotated[float, Field(ge=0.1, le=300)] = 5.0
    """Seconds after which another replica asks in the place of one that died asking."""

    traces: bool = False
    """Send spans to a collector, by OpenTelemetry; where to is told by the standard OTEL_* variables.
    Needs the extra `otel`. No span holds what a sample says."""
    secrets_dir: Path | None = None
    """Folder with settings as files, as Kubernetes and Compose mount secrets: each named like its
    variable in lower case, such as `medreward_api_keys`. The environment wins over a file."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What is logged. No level logs what a sample says."""
    log_format: Literal["json", "console"] = "json"
    """One JSON object a line, or text for people."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the same
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read what is given, then the environment, then the folder of secrets, if there is one."""
        folder = os.environ.get("MEDREWARD_SECRETS_DIR", "")
        # One that is not there is refused by its own setting, in words.
        is_there = folder and Path(folder).is_dir()
        files = [SecretsSettingsSource(settings_cls, folder)] if is_there else []
        return init_settings, env_settings, *files

    _split_lists = field_validator(
        "recipes", "api_keys", "judge_url", "embedder_url", "redis_hosts", mode="before"
    )(_items)

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
            # The message must not quote it: it may hold a password.
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
    def _redis_settings_agree(self) -> Self:
        if self.redis_mode != "standalone" and self.redis_url is None:
            raise ValueError(f"MEDREWARD_REDIS_MODE={self.redis_mode} needs MEDREWARD_REDIS_URL")
        url = self.redis_url.get_secret_value() if self.redis_url is not None else ""
        if url.startswith("unix:") and self.redis_mode != "standalone":
            raise ValueError(f"MEDREWARD_REDIS_MODE={self.redis_mode} needs redis:// or rediss://")
        if self.redis_hosts and self.redis_mode == "standalone":
            raise ValueError(
                "MEDREWARD_REDIS_HOSTS is for MEDREWARD_REDIS_MODE=sentinel or cluster"
            )
        return self

    @model_validator(mode="after")
    def _caps_have_prices(self) -> Self:
        is_free = self.judge_prompt_price == 0 and self.judge_completion_price == 0
        if is_free and self.judge_max_cost_per_day is not None:
            raise ValueError(
                "a cap on the judge's cost is never reached without a price: "
                "set MEDREWARD_JUDGE_PROMPT_PRICE or MEDREWARD_JUDGE_COMPLETION_PRICE"
            )
        return self

    @model_validator(mode="after")
    def _a_cascade_has_two_engines(self) -> Self:
        if self.llm_choice is None and (self.cascade or self.llm_model):
            name = "CASCADE" if self.cascade else "LLM_MODEL"
            raise ValueError(
                f"MEDREWARD_{name} is for a language model beside the judge: set MEDREWARD_LLM"
            )
        return self

    @model_validator(mode="after")
    def _keys_beyond_loopback(self) -> Self:
        if self.host not in LOOPBACK and not self.api_keys and not self.allow_unauthenticated:
            raise ValueError(
                f"listening on {self.host} lets anyone score: set MEDREWARD_API_KEYS, "
                "or MEDREWARD_ALLOW_UNAUTHENTICATED=true if something in front checks keys"
            )
        return self

    @model_validator(mode="after")
    def _default_deadline_is_allowed(self) -> Self:
        if self.deadline_s > self.max_deadline_s:
            raise ValueError(
                "MEDREWARD_DEADLINE_S is over MEDREWARD_MAX_DEADLINE_S; raise that too"
            )
        return self

    @property
    def judge_choice(self) -> Choice:
        """The judge's engine and model: those set, else the role's or the profile's."""
        if self.role == "api" and self.judge is None:
            return ELSEWHERE
        profile = PROFILES[self.profile]
        # Naming the engine of another model of the profile is enough to have it as the judge.
        known = (profile.judge, profile.llm, profile.other_judge)
        named = (c for c in known if c and c.engine == self.judge)
        return _choose(next(named, profile.judge), self.judge, self.judge_model)

    @property
    def llm_choice(self) -> Choice | None:
        """The engine and model beside the judge; None where there is none."""
        has_own = self.judge is None and self.role in {"all", "judge"}
        default = PROFILES[self.profile].llm if has_own else None
        if default is not None:
            return _choose(default, self.llm, self.llm_model)
        return None if self.llm is None else Choice(self.llm, self.llm_model or "")

    @property
    def calibration_file(self) -> Path | None:
        """The calibration that somebody made for this deployment."""
        return self.calibration if isinstance(self.calibration, Path) else None

    @property
    def abstains(self) -> bool:
        """Whether a verdict may be left open."""
        is_wanted = self.cascade or self.calibration_file is not None
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
        """How long the texts of one sample may be."""
        return Limits(self.max_response_bytes, self.max_text_bytes)

    @property
    def torch_device(self) -> str:
        """Where models in this process run."""
        return self.device or PROFILES[self.profile].device


def _choose(default: Choice, engine: str | None, model: str | None) -> Choice:
    """A profile's model goes with the profile's engine; another engine needs one of its own."""
    if engine is None or engine == default.engine:
        return Choice(default.engine, model or default.model)
    return Choice(engine, model or "")
