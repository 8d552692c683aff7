"""The GPUs of this machine, and the share of their memory that vLLM may take."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import NamedTuple

from medreward.errors import SetupError

GIB = 2**30
RESERVED_BYTES = 3 * GIB
"""Kept free for memory that is taken later, estimated and not measured: up to 2 GiB by a pass of the
embedder (16,384 tokens through a large BERT in float32), and 1 GiB by vLLM's CUDA context, which
its share does not count."""
LARGEST_SHARE = 0.9
SHARE_ON_CPU = 0.85


class GpuMemory(NamedTuple):
    """The memory of one GPU, in bytes."""

    free: int
    total: int


@dataclass(frozen=True, slots=True)
class Platform:
    """The parts of a machine that the profile `gpu` needs."""

    has_vllm: bool
    cuda_devices: int | None
    """None if torch, which counts them, is not installed."""
    memory: tuple[GpuMemory, ...] = ()
    """Memory of the first devices, as many as were asked for."""


Probe = Callable[[int], Platform]
"""Measures the platform, with the memory of that many GPUs."""


def measure_platform(gpus: int) -> Platform:
    """Look for vLLM and CUDA devices, and measure the memory of the first *gpus* of them."""
    has_vllm = find_spec("vllm") is not None
    if find_spec("torch") is None:
        return Platform(has_vllm, None)
    import torch  # noqa: PLC0415 - only with the extra `embedded` or `vllm`

    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    # Measuring creates a CUDA context, some 0.5 GiB, on each device, so only those are measured
    # that vLLM will run on.
    memory = tuple(GpuMemory(*torch.cuda.mem_get_info(i)) for i in range(min(gpus, devices)))
    return Platform(has_vllm, devices, memory)


def vllm_share(memory: Sequence[GpuMemory], engines: int = 1) -> float:
    """Compute `gpu_memory_utilization` for each of *engines* vLLM engines on the same GPUs.

    *memory* is measured after the embedder was loaded. vLLM takes the same share of the total
    memory of every GPU that it runs on, so the fullest GPU decides; without GPUs it is on a CPU.

    Raises:
        SetupError: nothing is left for vLLM.
    """
    if not memory:
        return SHARE_ON_CPU
    fullest = min(memory, key=lambda gpu: (gpu.free - RESERVED_BYTES) / gpu.total)
    share = min((fullest.free - RESERVED_BYTES) / fullest.total, LARGEST_SHARE) / engines
    # Down to a hundredth: vLLM refuses to start if the share is a byte more than what is free.
    share = math.floor(share * 100 + 1e-9) / 100
    if share <= 0:
        raise SetupError(
            f"{fullest.free / GIB:.1f} of {fullest.total / GIB:.1f} GiB of GPU memory are free, "
            f"and vLLM needs more than {RESERVED_BYTES / GIB:g} GiB: end what else runs on the GPU, "
            "choose another by CUDA_VISIBLE_DEVICES, or set MEDREWARD_VLLM_GPU_MEMORY_UTILIZATION"
        )
    return share
