"""The seconds of each stage, and the error of a stage that runs out of memory."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from medreward_trainer.errors import OutOfMemory

FEWER = {
    "gen": "actor_rollout_ref.rollout.micro_batch_size, or rollout.gpu_memory_utilization",
    "old_log_prob": "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu",
    "ref": "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu",
    "update_actor": "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu",
    "validation": "actor_rollout_ref.rollout.micro_batch_size",
    "warm_up": "warm_up.batch_size",
}
"""Key to lower, by the stage that runs out of memory."""


class StageTimes:
    """Adds up the seconds of each stage of one step."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._began = time.monotonic()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage.

        Raises:
            OutOfMemory: it did not fit; the message names the key to lower.
        """
        began = time.monotonic()
        try:
            yield
        except (MemoryError, RuntimeError) as exc:
            # The CPU's allocator raises a plain RuntimeError, so its message has to be checked.
            is_oom = isinstance(exc, MemoryError | torch.OutOfMemoryError)
            if is_oom or "can't allocate memory" in str(exc):
                key = FEWER.get(name, "the batch")
                raise OutOfMemory(f"{name} does not fit into memory; lower {key}") from exc
            raise
        finally:
            self._seconds[name] += time.monotonic() - began

    def metrics(self) -> dict[str, float]:
        """Return the seconds of each stage, and of the whole step so far."""
        seconds = {f"timing_s/{name}": spent for name, spent in self._seconds.items()}
        return {**seconds, "timing_s/step": time.monotonic() - self._began}
