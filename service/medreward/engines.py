"""The engines by name. To add one, add its module and a line here.

torch and its kin are imported by the builders that need them: a service that talks to remote
engines starts without.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import SecretStr

from medreward.api_key import ApiKey
from medreward.embedding.embedder import Embedder
from medreward.errors import SetupError
from medreward.judging.judge import Judge
from medreward.metrics import Metrics
from medreward.models import CATALOGUE, identify, locate
from medreward.pacing import Pace
from medreward.rate_limits import RateLimits
from medreward.settings import Settings
from medreward.spending import Ledger

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Workshop:
    """What a builder gets to build with."""

    settings: Settings
    worker: Executor
    """One thread for all models on the CPU: two would fight for the same cores."""
    pace: Pace = field(default_factory=Pace)
    """Where an engine does what would hold up the event loop."""
    ledger: Ledger | None = None
    """Where a paid judge books what it costs."""
    metrics: Metrics = field(default_factory=Metrics)
    lost: Callable[[str], None] = lambda _: None
    """Told why, on the event loop, by an engine that sees itself go while nobody asks."""


def _causal_lm(workshop: Workshop) -> Judge:
    _use_threads(workshop.settings)
    from medreward.judging.causal_lm import CausalLmJudge  # noqa: PLC0415 - imports torch

    settings = workshop.settings
    name = _given(settings.judge_choice.model, "MEDREWARD_JUDGE_MODEL")
    return CausalLmJudge.load(
        locate(name, settings.models_dir),
        name=identify(name, settings.judge_revision, settings.models_dir),
        revision=_revision(name, settings.judge_revision),
        device=settings.torch_device,
        secret=settings.secret.get_secret_value(),
        coverage_floor=settings.judge_coverage_floor,
        max_prompt_tokens=settings.judge_max_prompt_tokens,
        timeout_s=settings.judge_timeout_s,
        worker=workshop.worker,
    )


def _cross_encoder(workshop: Workshop) -> Judge:
    _use_threads(workshop.settings)
    from medreward.judging.cross_encoder import CrossEncoderJudge  # noqa: PLC0415 - imports torch

    settings = workshop.settings
    name = _given(settings.judge_choice.model, "MEDREWARD_JUDGE_MODEL")
    return CrossEncoderJudge.load(
        locate(name, settings.models_dir),
        name=identify(name, settings.judge_revision, settings.models_dir),
        revision=_revision(name, settings.judge_revision),
        device=settings.torch_device,
        positive_label=settings.judge_positive_label,
        max_tokens=settings.judge_max_prompt_tokens,
        timeout_s=settings.judge_timeout_s,
        worker=workshop.worker,
    )


def _vllm(workshop: Workshop) -> Judge:
    from medreward.judging.vllm import VllmJudge  # noqa: PLC0415 - imports vLLM
    from medreward.judging.vllm_engine import EngineOptions  # noqa: PLC0415 - the same

    settings = workshop.settings
    name = _given(settings.judge_choice.model, "MEDREWARD_JUDGE_MODEL")
    return VllmJudge.load(
        locate(name, settings.models_dir),
        name=identify(name, settings.judge_revision, settings.models_dir),
        revision=_revision(name, settings.judge_revision),
        options=EngineOptions(
            tensor_parallel=settings.vllm_tensor_parallel,
            data_parallel=settings.vllm_data_parallel,
            gpu_memory_utilization=settings.vllm_gpu_memory_utilization,
            kv_cache_gib=settings.vllm_kv_cache_gib,
            dtype=settings.vllm_dtype,
            enforce_eager=settings.vllm_enforce_eager,
            log_style=settings.log_format,
        ),
        secret=settings.secret.get_secret_value(),
        coverage_floor=settings.judge_coverage_floor,
        max_prompt_tokens=settings.judge_max_prompt_tokens,
        timeout_s=settings.judge_timeout_s,
        count_tokens=workshop.metrics.count_prompt_tokens,
        lost=workshop.lost,
    )


def _openai_judge(workshop: Workshop) -> Judge:
    from medreward.judging.openai import OpenAiJudge  # noqa: PLC0415 - beside its siblings

    settings = workshop.settings
    return OpenAiJudge(
        *_addresses(settings.judge_url, "MEDREWARD_JUDGE_URL, such as http://judge:8000/v1"),
        model=_given(settings.judge_choice.model, "MEDREWARD_JUDGE_MODEL"),
        revision=settings.judge_revision,
        api_key=ApiKey(settings.judge_api_key, settings.judge_api_key_file),
        headers=_opened(settings.judge_headers),
        secret=settings.secret.get_secret_value(),
        coverage_floor=settings.judge_coverage_floor,
        way=settings.judge_way,
        timeout_s=settings.judge_timeout_s,
        try_timeout_s=settings.judge_try_timeout_s,
        limits=RateLimits(
            requests_per_minute=settings.judge_requests_per_minute,
            tokens_per_minute=settings.judge_tokens_per_minute,
        ),
        ledger=workshop.ledger,
        pace=workshop.pace,
    )


def _scripted(_workshop: Workshop) -> Judge:
    from medreward.judging.scripted import ScriptedJudge  # noqa: PLC0415 - beside its siblings

    return ScriptedJudge()


def _sentence_transformer(workshop: Workshop) -> Embedder:
    _use_threads(workshop.settings)
    from medreward.embedding.sentence_transformer import (  # noqa: PLC0415 - imports torch
        SentenceTransformerEmbedder,
    )

    settings = workshop.settings
    name = _given(settings.embedder_choice.model, "MEDREWARD_EMBEDDER_MODEL")
    return SentenceTransformerEmbedder.load(
        locate(name, settings.models_dir),
        name=identify(name, settings.embedder_revision, settings.models_dir),
        revision=_revision(name, settings.embedder_revision),
        device=settings.torch_device,
        worker=workshop.worker,
    )


def _openai_embedder(workshop: Workshop) -> Embedder:
    from medreward.embedding.openai import OpenAiEmbedder  # noqa: PLC0415 - beside its siblings

    settings = workshop.settings
    return OpenAiEmbedder(
        *_addresses(settings.embedder_url, "MEDREWARD_EMBEDDER_URL, such as http://embed:8000/v1"),
        model=_given(settings.embedder_choice.model, "MEDREWARD_EMBEDDER_MODEL"),
        revision=settings.embedder_revision,
        api_key=ApiKey(settings.embedder_api_key, settings.embedder_api_key_file),
        headers=_opened(settings.embedder_headers),
        timeout_s=settings.embedder_timeout_s,
        try_timeout_s=settings.embedder_try_timeout_s,
        pace=workshop.pace,
    )


def _hashed(_workshop: Workshop) -> Embedder:
    from medreward.embedding.hashed import HashedEmbedder  # noqa: PLC0415 - beside its siblings

    return HashedEmbedder()


JUDGES: Mapping[str, Callable[[Workshop], Judge]] = {
    "causal_lm": _causal_lm,
    "cross_encoder": _cross_encoder,
    "vllm": _vllm,
    "openai": _openai_judge,
    "scripted": _scripted,
}

EMBEDDERS: Mapping[str, Callable[[Workshop], Embedder]] = {
    "sentence_transformer": _sentence_transformer,
    "openai": _openai_embedder,
    "hashed": _hashed,
}


def build_judge(workshop: Workshop) -> Judge:
    """Build the judge that the settings name; blocks until it is loaded."""
    return _build(JUDGES, workshop.settings.judge_choice.engine, "MEDREWARD_JUDGE", workshop)


def build_embedder(workshop: Workshop) -> Embedder:
    """Build the embedder that the settings name; blocks until it is loaded."""
    choice = workshop.settings.embedder_choice
    return _build(EMBEDDERS, choice.engine, "MEDREWARD_EMBEDDER", workshop)


def check_choices(settings: Settings) -> None:
    """Refuse an engine that does not exist before anything is loaded.

    Raises:
        SetupError: naming the setting and the choices.
    """
    _builder(JUDGES, settings.judge_choice.engine, "MEDREWARD_JUDGE")
    _builder(EMBEDDERS, settings.embedder_choice.engine, "MEDREWARD_EMBEDDER")


def _build(
    registry: Mapping[str, Callable[[Workshop], T]], engine: str, setting: str, workshop: Workshop
) -> T:
    try:
        return _builder(registry, engine, setting)(workshop)
    except ModuleNotFoundError as exc:
        extra = "vllm" if engine == "vllm" else "embedded"
        raise SetupError(
            f"the engine {engine!r} needs {exc.name}: `pip install 'medreward[{extra}]'`, "
            f"or set MEDREWARD_PROFILE=remote and the URLs of your servers"
        ) from exc


def _builder(
    registry: Mapping[str, Callable[[Workshop], T]], engine: str, setting: str
) -> Callable[[Workshop], T]:
    try:
        return registry[engine]
    except KeyError:
        raise SetupError(f"{setting}={engine!r}; choose from {', '.join(registry)}") from None


def _given(value: str | None, setting: str) -> str:
    if not value:
        raise SetupError(f"this engine needs {setting}")
    return value


def _revision(name: str, revision: str | None) -> str | None:
    """A packaged model is pinned by the catalogue; another by its setting."""
    return None if name in CATALOGUE else revision


def _addresses(urls: tuple[str, ...], setting: str) -> tuple[str, ...]:
    if not urls:
        raise SetupError(f"this engine needs {setting}")
    return urls


def _opened(headers: Mapping[str, SecretStr]) -> dict[str, str]:
    return {name: value.get_secret_value() for name, value in headers.items()}


def _use_threads(settings: Settings) -> None:
    import torch  # noqa: PLC0415 - only with the extra `embedded`

    if settings.torch_threads is not None:
        torch.set_num_threads(settings.torch_threads)
