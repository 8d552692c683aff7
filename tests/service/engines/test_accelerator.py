"""The profile `gpu`: refused on a machine that lacks something, and vLLM's share of a GPU."""

from typing import Any

import pytest

from medreward.app import create_app
from medreward.engines.accelerator import GIB, GpuMemory, Platform, measure_platform, vllm_share
from medreward.engines.registry import check_choices
from medreward.errors import SetupError
from medreward.settings import Settings

WITH_GPU = Platform(has_vllm=True, cuda_devices=1)
WITHOUT_CUDA = Platform(has_vllm=True, cuda_devices=0)
WITHOUT_VLLM = Platform(has_vllm=False, cuda_devices=1)
WITHOUT_TORCH = Platform(has_vllm=False, cuda_devices=None)
WITH_NOTHING = Platform(has_vllm=False, cuda_devices=0)

VLLM = "pip install 'medreward[vllm]'"
CUDA = "a CUDA device"


def check(platform: Platform, **given: Any) -> None:
    """Check the choices of a service with the profile gpu on *platform*."""
    check_choices(Settings(profile="gpu", **given), lambda _: platform)


@pytest.mark.parametrize(
    ("platform", "given", "told", "not_told"),
    [
        (WITHOUT_CUDA, {}, [CUDA], [VLLM]),
        (WITHOUT_VLLM, {}, [VLLM], [CUDA]),
        (WITHOUT_TORCH, {}, [VLLM], [CUDA]),
        (WITH_NOTHING, {}, [VLLM, CUDA], []),
        (WITHOUT_VLLM, {"role": "judge", "judge_model": "other"}, [VLLM], [CUDA]),
        (WITH_NOTHING, {"role": "embed"}, [CUDA], [VLLM]),
        (WITH_NOTHING, {"judge": "scripted"}, [CUDA], [VLLM]),
        (WITHOUT_CUDA, {"embedder": "hashed"}, [CUDA], [VLLM]),
        (WITHOUT_CUDA, {"device": "cpu"}, [CUDA], [VLLM]),
    ],
)
def test_a_machine_that_lacks_something_is_refused_by_name(
    platform: Platform, given: dict[str, Any], told: list[str], not_told: list[str]
) -> None:
    """The message names all that is missing, only that, and the other profiles."""
    with pytest.raises(SetupError) as refused:
        check(platform, **given)

    message = str(refused.value)
    assert all(part in message for part in (*told, "embedded", "remote"))
    assert not any(part in message for part in not_told)


@pytest.mark.parametrize(
    ("platform", "given"),
    [
        (WITH_GPU, {}),
        (WITHOUT_VLLM, {"role": "embed"}),
        (WITHOUT_VLLM, {"judge": "causal_lm"}),
        (WITH_NOTHING, {"judge": "vllm", "embedder": "hashed"}),
        (WITH_NOTHING, {"judge": "scripted", "embedder": "hashed"}),
        (WITH_NOTHING, {"judge": "scripted", "device": "cpu"}),
        (WITH_NOTHING, {"role": "api"}),
    ],
)
def test_what_the_user_chose_is_not_refused(platform: Platform, given: dict[str, Any]) -> None:
    """Only engines that the profile chose are checked: the user's own fail or run by themselves."""
    check(platform, **given)


@pytest.mark.parametrize("profile", ["embedded", "remote"])
def test_other_profiles_do_not_look_at_the_machine(profile: Any) -> None:
    """They start as fast as before, and without torch."""

    def probe(_: int) -> Platform:
        raise AssertionError

    check_choices(Settings(profile=profile), probe)


def test_a_service_is_refused_before_it_listens() -> None:
    """The refusal comes while the app is built, not by a readiness that never turns."""
    with pytest.raises(SetupError, match="MEDREWARD_PROFILE=gpu needs a CUDA device"):
        create_app(Settings(profile="gpu"), probe=lambda _: WITHOUT_CUDA)


def gpu(free_gib: float, total_gib: float) -> GpuMemory:
    """A GPU with so much memory."""
    return GpuMemory(round(free_gib * GIB), round(total_gib * GIB))


@pytest.mark.parametrize(
    ("memory", "engines", "share"),
    [
        # An embedder of 2 GiB beside it.
        ([gpu(78, 80)], 1, 0.9),
        ([gpu(22, 24)], 1, 0.79),
        # Another process has taken half of the GPU.
        ([gpu(40, 80)], 1, 0.46),
        # Exact hundredths stay, everything else goes down.
        ([gpu(53, 100)], 1, 0.5),
        ([gpu(53.99, 100)], 1, 0.5),
        # The fullest of several GPUs decides.
        ([gpu(79, 80), gpu(43, 80)], 1, 0.5),
        # A judge and a language model beside it, both in vLLM.
        ([gpu(43, 80)], 2, 0.25),
        # No GPU: vLLM's build for CPUs.
        ([], 1, 0.85),
    ],
)
def test_vllm_gets_what_the_embedder_leaves(
    memory: list[GpuMemory], engines: int, share: float
) -> None:
    """A share of the total that is free now, less 3 GiB, and never more than 0.9."""
    assert vllm_share(memory, engines) == share
    # What vLLM checks at its start.
    assert all(share * engines * m.total <= m.free for m in memory)


@pytest.mark.parametrize("free_gib", [0.0, 1.0, 3.0, 3.2])
def test_a_full_gpu_is_refused_with_its_figures(free_gib: float) -> None:
    """The message has what is free, what the GPU has, and the setting that overrules it."""
    told = rf"{free_gib:.1f} of 80\.0 GiB .* MEDREWARD_VLLM_GPU_MEMORY_UTILIZATION"

    with pytest.raises(SetupError, match=told):
        vllm_share([gpu(free_gib, 80)])


def test_this_machine_can_be_measured() -> None:
    """As many figures of memory as there are GPUs of those asked for, none larger than the whole."""
    platform = measure_platform(1)

    assert len(platform.memory) == min(1, platform.cuda_devices or 0)
    assert all(0 <= gpu.free <= gpu.total for gpu in platform.memory)
