"""Rollouts by vLLM in this process; the policy's weights are copied into it after each update."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from medreward_trainer.config.config import Config, Sampling
from medreward_trainer.data.prompts import Prompt, Prompter
from medreward_trainer.rollouts.rollout import Group, Rollout, read_rollout
from medreward_trainer.update.policy import Policy

# Set before vLLM is imported: the weights of an engine in another process cannot be replaced.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")

from vllm import EngineArgs, LLMEngine, SamplingParams
from vllm.sampling_params import RequestOutputKind

NEVER = -100.0
"""A logit bias that excludes a token; vLLM accepts none lower."""


class VLLMSampler:
    """An engine with its own copy of the weights; groups come in the order in which they finish.

    `gpu_memory_utilization` is the engine's share of the device.
    """

    def __init__(self, policy: Policy, config: Config) -> None:
        rollout, data = config.actor_rollout_ref.rollout, config.data
        self._policy, self._longest = policy, data.max_response_length
        self._drawn = 0
        with TemporaryDirectory() as folder:
            policy.save_whole(Path(folder))
            self._engine: Any = LLMEngine.from_engine_args(
                EngineArgs(
                    model=folder,
                    dtype=config.actor_rollout_ref.model.dtype,
                    max_model_len=data.max_prompt_length + data.max_response_length,
                    max_num_batched_tokens=rollout.max_num_batched_tokens,
                    gpu_memory_utilization=rollout.gpu_memory_utilization,
                    tensor_parallel_size=rollout.tensor_model_parallel_size,
                    enforce_eager=rollout.enforce_eager,
                    seed=config.trainer.seed,
                    disable_log_stats=True,
                    # The run decides on sampling, not the defaults in the checkpoint.
                    generation_config="vllm",
                ),
                enable_multiprocessing=False,
            )

    def take_weights(self) -> None:
        """Copy the policy's weights, and clear the prefix cache of the previous ones."""
        # In the names and layouts of a checkpoint: the engine's own weights are fused and packed.
        weights: list[tuple[str, Tensor]] = list(self._policy.whole_weights())
        self._engine.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
        self._engine.apply_model(pack_head)
        self._engine.reset_prefix_cache()

    def groups(self, prompts: Sequence[Prompt], *, n: int, how: Sampling) -> Iterator[Group]:
        """Yield each group once all of its samples have ended."""
        waiting = {}
        for prompt in prompts:
            self._drawn += 1
            name = str(self._drawn)
            waiting[name] = prompt
            self._engine.add_request(
                name, request_of(prompt, self._policy.prompter), self._sampling(n, how)
            )
        try:
            while waiting:
                for output in self._engine.step():
                    if output.finished:
                        yield Group(waiting.pop(output.request_id), self._read(output))
        finally:
            if waiting:
                self._engine.abort_request(list(waiting))

    def _sampling(self, n: int, how: Sampling) -> SamplingParams:
        return SamplingParams(
            n=n,
            temperature=how.temperature,
            top_p=how.top_p,
            top_k=how.top_k,
            max_tokens=self._longest,
            stop_token_ids=sorted(self._policy.end_ids),
            logit_bias=dict.fromkeys(self._policy.picture_ids, NEVER) or None,
            # Drawn from the run's random numbers, which a checkpoint restores.
            seed=int(torch.randint(2**31, ())),
            output_kind=RequestOutputKind.FINAL_ONLY,
            detokenize=False,
        )

    def _read(self, output: Any) -> tuple[Rollout, ...]:
        samples = sorted(output.outputs, key=lambda sample: sample.index)
        return tuple(read_rollout(sample.token_ids, self._policy) for sample in samples)


def pack_head(model: Any) -> None:
    """Pack the output layer again, since vLLM's reload skips one that is tied to the embedding.

    On a GPU nothing is packed; on a CPU the engine would keep using the previous weights.
    """
    head = getattr(model, "lm_head", None)
    if head is not None and getattr(head, "quant_method", None) is not None:
        head.quant_method.process_weights_after_loading(head)


def request_of(prompt: Prompt, prompter: Prompter) -> dict[str, Any]:
    """Convert a prompt to a request of vLLM.

    With images vLLM takes the text, and expands the places of the images itself.
    """
    if not prompt.example.images:
        return {"prompt_token_ids": list(prompt.token_ids)}
    return {
        "prompt": prompt.text,
        "multi_modal_data": {"image": prompter.images_of(prompt.example)},
    }
