"""Rollouts by vLLM, in this process, with the policy's weights copied into it after each update."""

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

# Before vLLM is imported: an engine in a process of its own could not be given weights in place.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")

from vllm import EngineArgs, LLMEngine, SamplingParams
from vllm.sampling_params import RequestOutputKind

NEVER = -100.0
"""A bias that no token survives; vLLM has no lower one."""


class VLLMSampler:
    """An engine beside the policy: groups are given in the order in which they finish.

    It holds a second copy of the weights; `gpu_memory_utilization` is its share of the device.
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
                    # Sampling is the run's matter, not the checkpoint's.
                    generation_config="vllm",
                ),
                enable_multiprocessing=False,
            )

    def take_weights(self) -> None:
        """Copy the policy's weights, and forget what was computed with the former ones."""
        # By way of the checkpoint's names and layouts: what the engine holds is fused and packed.
        weights: list[tuple[str, Tensor]] = list(self._policy.whole_weights())
        self._engine.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
        self._engine.apply_model(pack_head)
        self._engine.reset_prefix_cache()

    def groups(self, prompts: Sequence[Prompt], *, n: int, how: Sampling) -> Iterator[Group]:
        """Give each group once all of its samples have ended."""
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
            # From the run's random numbers, which a checkpoint brings back.
            seed=int(torch.randint(2**31, ())),
            output_kind=RequestOutputKind.FINAL_ONLY,
            detokenize=False,
        )

    def _read(self, output: Any) -> tuple[Rollout, ...]:
        samples = sorted(output.outputs, key=lambda sample: sample.index)
        return tuple(read_rollout(sample.token_ids, self._policy) for sample in samples)


def pack_head(model: Any) -> None:
    """Pack the output layer anew: vLLM's reload leaves out one that is tied to the embedding.

    On a GPU there is nothing to pack; on a CPU it would go on with the former weights.
    """
    head = getattr(model, "lm_head", None)
    if head is not None and getattr(head, "quant_method", None) is not None:
        head.quant_method.process_weights_after_loading(head)


def request_of(prompt: Prompt, prompter: Prompter) -> dict[str, Any]:
    """A prompt in vLLM's words; with pictures it takes the text, and expands their places itself."""
    if not prompt.example.images:
        return {"prompt_token_ids": list(prompt.token_ids)}
    return {
        "prompt": prompt.text,
        "multi_modal_data": {"image": prompter.images_of(prompt.example)},
    }
