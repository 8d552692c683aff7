"""What this machine has for models: its GPUs, with the share that vLLM may take, and its memory."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
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
    """The parts of a machine that a profile needs."""

    has_vllm: bool = False
    cuda_devices: int | None = None
    """None if they were not counted, or if torch, which counts them, is not installed."""
    memory: tuple[GpuMemory, ...] = ()
    """Memory of the first devices, as many as were asked for."""
    process_memory: int | None = None
    """Bytes that this process may take; None if the system does not tell."""


Probe = Callable[[int | None], Platform]
"""Measures the platform, with the memory of that many GPUs; None leaves the GPUs out."""


def measure_platform(gpus: int | None) -> Platform:
    """Look for vLLM and for memory, and at the CUDA devices unless *gpus* is None.

    The memory of the first *gpus* devices is measured too.
    """
    has_vllm, process_memory = find_spec("vllm") is not None, memory_limit()
    # Importing torch takes seconds.
    if gpus is None or find_spec("torch") is None:
        return Platform(has_vllm, process_memory=process_memory)
    import torch  # noqa: PLC0415 - only with the extra `embedded` or `vllm`

    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    # Measuring creates a CUDA context, some 0.5 GiB, on each device, so only those are measured
    # that vLLM will run on.
    memory = tuple(GpuMemory(*torch.cuda.mem_get_info(i)) for i in range(min(gpus, devices)))
    return Platform(has_vllm, devices, memory, process_memory)


def memory_limit(root: Path = Path("/")) -> int | None:
    """Return the bytes that this process may take: the least of its cgroups' limits and the machine.

    The total counts, not what is free: page cache and a process that is just being replaced free
    theirs when it is needed, and a start must not depend on what else runs at that moment.
    """
    limits = [*_machine_bytes(root), *_cgroup_limits(root)]
    return min(limits, default=None)


def _machine_bytes(root: Path) -> Iterator[int]:
    for line in _lines(root / "proc/meminfo"):
        name, _, value = line.partition(":")
        if name == "MemTotal":
            yield int(value.split()[0]) * 1024


def _cgroup_limits(root: Path) -> Iterator[int]:
    """Yield the limits of the process's cgroup and of those around it, in both versions of cgroups.

    In a container, the path that the kernel tells may be the host's, of which only the mounted root
    exists; its files are then the container's own.
    """
    mounts = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mount, file = mounts, "memory.max"
        elif "memory" in controllers.split(","):
            mount, file = mounts / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = PurePosixPath(path.lstrip("/"))
        for folder in (group, *group.parents):
            # "max" is no limit.
            yield from (int(limit) for limit in _lines(mount / folder / file) if limit.isdecimal())


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text("utf-8").splitlines()
    except OSError:
        return []  # another system, or a level that is not mounted here


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
