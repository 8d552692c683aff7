"""The registry of engines by name. To add one, add its module, a builder and a line in a table here.

torch and vLLM are imported only by the builders that need them, so a service with remote engines
starts without either.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import TypeVar

from pydantic import SecretStr

from medreward.engines.accelerator import GIB, Probe, measure_platform, vllm_share
from medreward.engines.calibration import Calibration, load_calibration
from medreward.engines.embedder import Embedder
from medreward.engines.embedders.hashed import HashedEmbedder
from medreward.engines.embedders.openai import OpenAiEmbedder
from medreward.engines.embedders.peer import RoleEmbedder
from medreward.engines.judge import Judge
from medreward.engines.judges.calibrated import CalibratedJudge
from medreward.engines.judges.cascade import Cascade
from medreward.engines.judges.openai import OpenAiJudge
from medreward.engines.judges.peer import RoleJudge
from medreward.engines.judges.scripted import ScriptedJudge
from medreward.engines.models import (
    CATALOGUE,
    SplitModel,
    identify,
    locate,
    own_calibration,
    own_readouts,
)
from medreward.engines.remote.api_key import ApiKey
from medreward.engines.remote.budget import CostTracker
from medreward.engines.remote.pool import ServerOptions
from medreward.engines.remote.rate_limits import RateLimits
from medreward.engines.templates import load_templates
from medreward.errors import SetupError
from medreward.offload import Offloader
from medreward.settings import Choice, Settings
from medreward.telemetry.metrics import Metrics

T = TypeVar("T")

NOTHING = Choice("", "")
VERIFIER = "medreward-verifier"


@dataclass(frozen=True, slots=True)
class BuildContext:
    """The settings and shared objects that an engine is built with."""

    settings: Settings
    worker: Executor
    """One thread for all models on the CPU: two would compete for the same cores."""
    offload: Offloader = field(default_factory=Offloader)
    """Runs work that would block the event loop."""
    costs: CostTracker | None = None
    """Counts the cost of a paid judge."""
    metrics: Metrics = field(default_factory=Metrics)
    lost: Callable[[str], None] = lambda _: None
    """Called with the reason, on the event loop, by an engine that ends between two requests."""
    probe: Probe = measure_platform
    choice: Choice = NOTHING
    """The engine and model to build."""
    revision: str | None = None
    """Revision of that model."""
    variable: str = "MEDREWARD_JUDGE"
    """The setting that chose the engine; with `_MODEL` appended, the one that chose the model."""

    def of(self, variable: str, choice: Choice, revision: str | None) -> "BuildContext":
        """Return the context of one engine."""
        return replace(self, variable=variable, choice=choice, revision=revision)

    @property
    def model(self) -> str:
        """The chosen model.

        Raises:
            SetupError: no model is chosen, and the engine needs one.
        """
        if not self.choice.model:
            raise SetupError(f"this engine needs {self.variable}_MODEL")
        return self.choice.model

    @property
    def identified(self) -> str:
        """The chosen model with its version or revision; part of every cache key."""
        return identify(self.model, self.revision, self.settings.models_dir)

    @property
    def source(self) -> str:
        """The folder of the chosen model, or its id on a hub."""
        return locate(self.model, self.settings.models_dir)

    @property
    def hub_revision(self) -> str | None:
        """The revision to load; None for a model that the catalogue pins."""
        return None if self.model in CATALOGUE else self.revision


def _causal_lm(context: BuildContext) -> Judge:
    _use_threads(context.settings)
    from medreward.engines.judges.causal_lm import CausalLmJudge  # noqa: PLC0415 - imports torch
    from medreward.engines.local.readout import load_readouts  # noqa: PLC0415 - the same

    settings = context.settings
    # A readout is fitted on labels, as a calibration is, and goes with it.
    is_raw = settings.calibration == "off"
    readouts = None if is_raw else own_readouts(context.model, settings.models_dir)
    return CausalLmJudge.load(
        context.source,
        name=context.identified,
        revision=context.hub_revision,
        device=settings.torch_device,
        dtype=settings.causal_lm_dtype,
        secret=settings.secret.get_secret_value(),
        coverage_floor=settings.judge_coverage_floor,
        max_prompt_tokens=settings.judge_max_prompt_tokens,
        timeout_s=settings.judge_timeout_s,
        readouts=[] if readouts is None else load_readouts(readouts),
        worker=context.worker,
    )


def _cross_encoder(context: BuildContext) -> Judge:
    _use_threads(context.settings)
    from medreward.engines.judges.cross_encoder import CrossEncoderJudge  # noqa: PLC0415 - imports torch

    settings = context.settings
    return CrossEncoderJudge.load(
        context.source,
        name=context.identified,
        revision=context.hub_revision,
        device=settings.torch_device,
        positive_label=settings.judge_positive_label,
        max_tokens=settings.judge_max_prompt_tokens,
        timeout_s=settings.judge_timeout_s,
        worker=context.worker,
    )


def _vllm(context: BuildContext) -> Judge:
    from medreward.engines.judges.vllm import VllmJudge  # noqa: PLC0415 - imports vLLM
    from medreward.engines.judges.vllm_engine import EngineOptions  # noqa: PLC0415 - the same

    settings = context.settings
    return VllmJudge.load(
        context.source,
        name=context.identified,
        revision=context.hub_revision,
        options=EngineOptions(
            tensor_parallel=settings.vllm_tensor_parallel,
            data_parallel=settings.vllm_data_parallel,
            gpu_memory_utilization=_gpu_share(context),
            kv_cache_gib=settings.vllm_kv_cache_gib,
            dtype=settings.vllm_dtype,
            enforce_eager=settings.vllm_enforce_eager,
            more={str(name): value for name, value in settings.vllm_arguments.items()},
            log_style=settings.log_format,
        ),
        secret=settings.secret.get_secret_value(),
        coverage_floor=settings.judge_coverage_floor,
        max_prompt_tokens=settings.judge_max_prompt_tokens,
        timeout_s=settings.judge_timeout_s,
        count_tokens=context.metrics.count_prompt_tokens,
        lost=context.lost,
    )


def _gpu_share(context: BuildContext) -> float:
    """Return each vLLM engine's share of GPU memory: the setting, or an equal part of the free memory."""
    settings = context.settings
    if settings.vllm_gpu_memory_utilization is not None:
        return settings.vllm_gpu_memory_utilization
    gpus = settings.vllm_tensor_parallel * settings.vllm_data_parallel
    choices = (settings.judge_choice, settings.llm_choice)
    engines = sum(choice is not None and choice.engine == "vllm" for choice in choices)
    return vllm_share(context.probe(gpus).memory, engines)


def _openai_judge(context: BuildContext) -> Judge:
    settings = context.settings
    return OpenAiJudge(
        *_addresses(settings.judge_url, "MEDREWARD_JUDGE_URL, such as http://judge:8000/v1"),
        model=context.model,
        revision=context.revision,
        secret=settings.secret.get_secret_value(),
        coverage_floor=settings.judge_coverage_floor,
        way=settings.judge_way,
        limits=RateLimits(
            requests_per_minute=settings.judge_requests_per_minute,
            tokens_per_minute=settings.judge_tokens_per_minute,
        ),
        costs=context.costs,
        offload=context.offload,
        **_judge_options(settings),
    )


def _role_judge(context: BuildContext) -> Judge:
    settings = context.settings
    return RoleJudge(
        *_addresses(settings.judge_url, "MEDREWARD_JUDGE_URL, such as http://judge:8080"),
        offload=context.offload,
        **_judge_options(settings),
    )


def _judge_options(settings: Settings) -> ServerOptions:
    return ServerOptions(
        api_key=ApiKey(settings.judge_api_key, settings.judge_api_key_file),
        headers=_revealed(settings.judge_headers),
        timeout_s=settings.judge_timeout_s,
        try_timeout_s=settings.judge_try_timeout_s,
    )


def _sentence_transformer(context: BuildContext) -> Embedder:
    _use_threads(context.settings)
    from medreward.engines.embedders.sentence_transformer import SentenceTransformerEmbedder  # noqa: PLC0415 - imports torch

    return SentenceTransformerEmbedder.load(
        context.source,
        name=context.identified,
        revision=context.hub_revision,
        device=context.settings.torch_device,
        worker=context.worker,
    )


def _openai_embedder(context: BuildContext) -> Embedder:
    settings = context.settings
    return OpenAiEmbedder(
        *_addresses(settings.embedder_url, "MEDREWARD_EMBEDDER_URL, such as http://embed:8000/v1"),
        model=context.model,
        revision=context.revision,
        offload=context.offload,
        **_embedder_options(settings),
    )


def _role_embedder(context: BuildContext) -> Embedder:
    settings = context.settings
    return RoleEmbedder(
        *_addresses(settings.embedder_url, "MEDREWARD_EMBEDDER_URL, such as http://embed:8080"),
        offload=context.offload,
        **_embedder_options(settings),
    )


def _embedder_options(settings: Settings) -> ServerOptions:
    return ServerOptions(
        api_key=ApiKey(settings.embedder_api_key, settings.embedder_api_key_file),
        headers=_revealed(settings.embedder_headers),
        timeout_s=settings.embedder_timeout_s,
        try_timeout_s=settings.embedder_try_timeout_s,
    )


JUDGES: Mapping[str, Callable[[BuildContext], Judge]] = {
    "causal_lm": _causal_lm,
    "cross_encoder": _cross_encoder,
    "vllm": _vllm,
    "openai": _openai_judge,
    "role": _role_judge,
    "scripted": lambda _: ScriptedJudge(),
}

READERS = tuple(name for name in JUDGES if name not in {"cross_encoder", "role"})
"""Engines of language models, and the scripted judge that replaces one in tests."""

WITHOUT_MODEL = frozenset({"openai", "role", "scripted", "hashed"})
"""Engines for a process that holds no model."""

EMBEDDERS: Mapping[str, Callable[[BuildContext], Embedder]] = {
    "sentence_transformer": _sentence_transformer,
    "openai": _openai_embedder,
    "role": _role_embedder,
    "hashed": lambda _: HashedEmbedder(),
}


def build_judge(context: BuildContext) -> Judge:
    """Build the judge that the settings name; blocks until it is loaded.

    It is one engine, with its calibration if there is one, or a cascade of two.

    Raises:
        SetupError: it cannot be built; the message names the setting to change.
    """
    settings = context.settings
    if settings.judge_choice.engine == "role":
        return _role_judge(context)
    first = _build_calibrated(
        context.of("MEDREWARD_JUDGE", settings.judge_choice, settings.judge_revision),
        must_be_known=settings.abstains,
    )
    if settings.llm_choice is None:
        return first
    second = _build_calibrated(
        context.of("MEDREWARD_LLM", settings.llm_choice, settings.llm_revision)
    )
    return Cascade(
        first,
        second,
        escalates=settings.escalates,
        # The verifier of this project compares terms; what another classifier reads is not known.
        only_terms=settings.judge_choice.model == VERIFIER,
        shadow=settings.cascade_shadow,
        timeout_s=settings.judge_timeout_s,
        metrics=context.metrics,
    )


def build_embedder(context: BuildContext) -> Embedder:
    """Build the embedder that the settings name; blocks until it is loaded."""
    choice, revision = context.settings.embedder_choice, context.settings.embedder_revision
    return _build(EMBEDDERS, context.of("MEDREWARD_EMBEDDER", choice, revision))


def check_choices(settings: Settings, probe: Probe = measure_platform) -> None:
    """Refuse engines that do not exist, or cannot run here, before any model is loaded.

    Raises:
        SetupError: naming the setting and the choices, or what the machine lacks.
    """
    if settings.role != "embed":
        _check_choice(settings, JUDGES, settings.judge_choice.engine, "MEDREWARD_JUDGE")
        if settings.judge_choice.engine == "role":
            _check_left_to_judge(settings)
        if settings.llm_choice is not None:
            readers = {name: JUDGES[name] for name in READERS}
            _builder(readers, settings.llm_choice.engine, "MEDREWARD_LLM")
    if settings.role != "judge":
        _check_choice(settings, EMBEDDERS, settings.embedder_choice.engine, "MEDREWARD_EMBEDDER")
    if settings.profile == "gpu":
        _check_platform(settings, probe)
    _check_memory(settings, probe)


def _check_memory(settings: Settings, probe: Probe) -> None:
    """Refuse the profile's language model on a machine or in a container too small for it.

    A language model, judge or device that the user chose is not refused here.
    """
    is_chosen = any((settings.llm, settings.llm_model, settings.device))
    model = CATALOGUE.get(settings.llm_choice.model) if settings.llm_choice else None
    if is_chosen or not isinstance(model, SplitModel):
        return
    found = probe(None).process_memory
    if found is not None and found < model.process_size:
        raise SetupError(
            f"MEDREWARD_PROFILE={settings.profile} needs {model.process_size / GIB:.1f} GiB of "
            f"memory for {model.name}, and this process may take {found / GIB:.1f} GiB: give the "
            "machine or the container more, or set MEDREWARD_PROFILE=embedded-small, which judges "
            "without a language model"
        )


def _check_platform(settings: Settings, probe: Probe) -> None:
    """Refuse the engines of the profile `gpu` on a machine that cannot run them.

    Engines that the user chose, or a device of their own, are not refused here.
    """
    judges = settings.role in {"all", "judge"} and settings.judge is None
    embeds = settings.role in {"all", "embed"} and settings.embedder is None
    if not judges and (not embeds or settings.device is not None):
        return
    platform = probe(0)
    missing = []
    if judges and not platform.has_vllm:
        missing.append("vLLM (`pip install 'medreward[vllm]'`)")
    if platform.cuda_devices == 0:
        missing.append(
            "a CUDA device (torch finds none: look at the driver, CUDA_VISIBLE_DEVICES, and "
            "whether this torch is a build for CPUs)"
        )
    if missing:
        raise SetupError(
            f"MEDREWARD_PROFILE=gpu needs {' and '.join(missing)}. Other profiles: embedded and "
            "embedded-small (models on a CPU) and remote (servers of yours)"
        )


def _check_choice(
    settings: Settings,
    registry: Mapping[str, Callable[[BuildContext], object]],
    engine: str,
    setting: str,
) -> None:
    """Refuse an unknown engine, a model in a process of the role `api`, and `role` in one that holds it."""
    _builder(registry, engine, setting)
    if settings.role == "api" and engine not in WITHOUT_MODEL:
        raise SetupError(
            f"{setting}={engine!r}: MEDREWARD_ROLE=api holds no model; leave it out and set "
            f"{setting}_URL, or choose openai or role"
        )
    if settings.role in {"judge", "embed"} and engine == "role":
        raise SetupError(
            f"{setting}=role: MEDREWARD_ROLE={settings.role} holds the model itself; leave it out"
        )


def _check_left_to_judge(settings: Settings) -> None:
    """Refuse settings that belong to the process that holds the judge, and have no effect here."""
    misplaced = {
        "LLM": settings.llm is not None,
        "CASCADE": settings.cascade is not None,
        "CALIBRATION": settings.calibration is not None,
        "ABSTAIN": settings.abstain is not None,
    }
    for name, is_set in misplaced.items():
        if is_set:
            raise SetupError(
                f"MEDREWARD_{name}: set it for the process with MEDREWARD_ROLE=judge, not for one "
                "that asks it (MEDREWARD_JUDGE=role)"
            )


def _build_calibrated(context: BuildContext, *, must_be_known: bool = False) -> Judge:
    """Build an engine, and wrap it in its calibration if there is one."""
    engine = _build(JUDGES, context)
    settings = context.settings
    calibration = _calibration_of(engine, context)
    if calibration is None and not must_be_known:
        return engine
    return CalibratedJudge(
        engine,
        calibration or Calibration(),
        templates=load_templates(),
        abstains=settings.abstains,
        must_be_known=must_be_known,
        timeout_s=settings.judge_timeout_s,
    )


def _calibration_of(engine: Judge, context: BuildContext) -> Calibration | None:
    """Return the user's calibration, or the model's own if the user's has no entry for the engine."""
    settings = context.settings
    if settings.calibration == "off":
        return None
    file = settings.calibration_file
    users = None if file is None else load_calibration(file)
    if users is not None and any(entry.engine == engine.identity for entry in users.entries):
        return users
    own = own_calibration(context.choice.model, settings.models_dir)
    return users if own is None else load_calibration(own)


def _build(registry: Mapping[str, Callable[[BuildContext], T]], context: BuildContext) -> T:
    engine = context.choice.engine
    try:
        return _builder(registry, engine, context.variable)(context)
    except ModuleNotFoundError as exc:
        extra = "vllm" if engine == "vllm" else "embedded"
        raise SetupError(
            f"the engine {engine!r} needs {exc.name}: `pip install 'medreward[{extra}]'`, "
            f"or set MEDREWARD_PROFILE=remote and the URLs of your servers"
        ) from exc


def _builder(
    registry: Mapping[str, Callable[[BuildContext], T]], engine: str, setting: str
) -> Callable[[BuildContext], T]:
    try:
        return registry[engine]
    except KeyError:
        raise SetupError(f"{setting}={engine!r}; choose from {', '.join(registry)}") from None


def _addresses(urls: tuple[str, ...], setting: str) -> tuple[str, ...]:
    if not urls:
        raise SetupError(f"this engine needs {setting}")
    return urls


def _revealed(headers: Mapping[str, SecretStr]) -> dict[str, str]:
    return {name: value.get_secret_value() for name, value in headers.items()}


def _use_threads(settings: Settings) -> None:
    import torch  # noqa: PLC0415 - only with the extra `embedded`

    if settings.torch_threads is not None:
        torch.set_num_threads(settings.torch_threads)
