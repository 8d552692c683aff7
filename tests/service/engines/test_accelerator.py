"""What a profile needs of a machine: refused where it lacks, and vLLM's share of a GPU."""

from pathlib import Path
from typing import Any

import pytest

from medreward.app import create_app
from medreward.engines.accelerator import (
    GIB,
    GpuMemory,
    Platform,
    measure_platform,
    memory_limit,
    vllm_share,
)
from medreward.engines.models import CATALOGUE, SplitModel
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


@pytest.mark.parametrize("profile", ["embedded-small", "remote"])
def test_other_profiles_do_not_look_at_the_machine(profile: Any) -> None:
    """They start as fast as before, and without torch."""

    def probe(_: int | None) -> Platform:
        raise AssertionError

    check_choices(Settings(profile=profile), probe)


@pytest.mark.parametrize(
    ("profile", "platform", "told"),
    [
        ("gpu", WITHOUT_CUDA, "MEDREWARD_PROFILE=gpu needs a CUDA device"),
        ("embedded", Platform(process_memory=GIB), "MEDREWARD_PROFILE=embedded needs 4.5 GiB"),
    ],
)
def test_a_service_is_refused_before_it_listens(
    profile: Any, platform: Platform, told: str
) -> None:
    """The refusal comes while the app is built, not by a readiness that never turns."""
    with pytest.raises(SetupError, match=told):
        create_app(Settings(profile=profile), probe=lambda _: platform)


# Memory of a process with a language model.

READER = CATALOGUE["qwen2.5-coder-1.5b-instruct"]
assert isinstance(READER, SplitModel)
TOO_LITTLE, ENOUGH = READER.process_size - 1, READER.process_size
UNKNOWN = None


def check_memory(memory: int | None, **given: Any) -> None:
    """Check the choices of a service, with the profile embedded unless *given* another."""

    def probe(gpus: int | None) -> Platform:
        assert gpus is None, "importing torch takes seconds"
        return Platform(process_memory=memory)

    check_choices(Settings(**{"profile": "embedded", **given}), probe)


@pytest.mark.parametrize("role", ["all", "judge"])
def test_embedded_is_refused_with_too_little_memory_for_its_language_model(role: str) -> None:
    """The message has both numbers, and the profile that fits; the judge is never another silently."""
    with pytest.raises(SetupError) as refused:
        check_memory(2 * GIB, role=role)

    message = str(refused.value)
    assert message.startswith("MEDREWARD_PROFILE=embedded needs 4.5 GiB of memory")
    assert "this process may take 2.0 GiB" in message
    assert "set MEDREWARD_PROFILE=embedded-small" in message
    with pytest.raises(SetupError, match="embedded-small"):
        check_memory(TOO_LITTLE)


@pytest.mark.parametrize(
    ("memory", "given"),
    [
        (ENOUGH, {}),
        (UNKNOWN, {}),
        (TOO_LITTLE, {"profile": "embedded-small"}),
        (TOO_LITTLE, {"role": "embed"}),
        (TOO_LITTLE, {"role": "api"}),
        (TOO_LITTLE, {"judge": "cross_encoder"}),
        (TOO_LITTLE, {"llm": "causal_lm", "llm_model": READER.name}),
        (TOO_LITTLE, {"llm_model": "other"}),
        (TOO_LITTLE, {"device": "cuda"}),
    ],
)
def test_what_fits_or_was_chosen_is_not_refused(memory: int | None, given: dict[str, Any]) -> None:
    """Nor is anything where the system does not tell its memory."""
    check_memory(memory, **given)


def tree(root: Path, files: dict[str, str]) -> Path:
    """A system's files under *root*, on a machine of 8 GiB."""
    for name, content in {"proc/meminfo": "MemTotal: 8388608 kB\nMemFree: 9 kB\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, "utf-8")
    return root


V1 = "9:cpu,cpuacct:/a\n4:memory:/a/b\n0::/\n"
NONE_V1 = "9223372036854771712"


@pytest.mark.parametrize(
    ("files", "gib"),
    [
        ({}, 8),
        ({"proc/self/cgroup": "0::/\n"}, 8),
        # Version 2: the least of nested limits.
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": f"{3 * GIB}\n"}, 3),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": f"{2 * GIB}\n",
          "sys/fs/cgroup/a/b/memory.max": "max\n"}, 2),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": f"{5 * GIB}\n",
          "sys/fs/cgroup/a/b/memory.max": f"{3 * GIB}\n"}, 3),
        # In a container with a namespace of its own, and in one with the path of the host.
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": f"{4 * GIB}\n"}, 4),
        ({"proc/self/cgroup": "0::/../host\n", "sys/fs/cgroup/memory.max": f"{4 * GIB}\n"}, 4),
        # More than the machine has.
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": f"{64 * GIB}\n"}, 8),
        # Version 1, where no limit is a large number.
        ({"proc/self/cgroup": V1, "sys/fs/cgroup/memory/memory.limit_in_bytes": NONE_V1}, 8),
        ({"proc/self/cgroup": V1,
          "sys/fs/cgroup/memory/memory.limit_in_bytes": NONE_V1,
          "sys/fs/cgroup/memory/a/memory.limit_in_bytes": f"{2 * GIB}",
          "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": f"{3 * GIB}"}, 2),
        ({"proc/self/cgroup": V1, "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{1 * GIB}"}, 1),
    ],
)  # fmt: skip
def test_a_process_may_take_the_least_of_its_limits(
    tmp_path: Path, files: dict[str, str], gib: int
) -> None:
    """Of the machine's whole memory and of each cgroup around the process, of both versions."""
    assert memory_limit(tree(tmp_path, files)) == gib * GIB


def test_a_system_without_these_files_does_not_tell(tmp_path: Path) -> None:
    """Nothing is refused there."""
    assert memory_limit(tmp_path) is None


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
