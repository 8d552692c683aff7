"""The trained model: its weights, its optimiser, and the log-probabilities of its tokens."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from accelerate import Accelerator
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from medreward_trainer.config.config import Config, Model, Optim
from medreward_trainer.data.prompts import Prompter
from medreward_trainer.tiny_models import load_model, plain_generation
from medreward_trainer.update.batches import SequenceBatch

T = TypeVar("T")


class Policy:
    """A causal language model that reads text, or images and text.

    Trained weights are float32 whatever the type of the computation: bfloat16 has eight significant
    bits, so a step of 1e-6 on a weight of 0.02 would be lost.
    """

    def __init__(
        self, model: nn.Module, processor: Any, config: Config, accelerator: Accelerator
    ) -> None:
        self.prompter = Prompter(processor, config.data)
        self.tokenizer = self.prompter.tokenizer
        self.accelerator = accelerator
        self.dtype = getattr(torch, config.actor_rollout_ref.model.dtype)
        self._temperature = config.actor_rollout_ref.rollout.temperature
        plain_generation(model)
        if config.actor_rollout_ref.model.enable_gradient_checkpointing:
            model.gradient_checkpointing_enable(  # type: ignore[operator]  # transformers' own
                gradient_checkpointing_kwargs={"use_reentrant": False}
            )
        self.bare_model: Any = model.to(accelerator.device)
        # Wrapped only if there are several processes, whose gradients are averaged.
        self.model: Any = accelerator.prepare(model) if accelerator.num_processes > 1 else model
        self.trained = [weight for weight in model.parameters() if weight.requires_grad]
        self.end_ids = end_ids(model, self.tokenizer)
        self.picture_ids = picture_ids(model)

    @classmethod
    def load(cls, config: Config, accelerator: Accelerator, *, saved: Path | None) -> Self:
        """Load the policy from a checkpoint's folder, or the configured model if there is none.

        Raises:
            BadConfig: the model is missing.
        """
        wanted = config.actor_rollout_ref.model
        path = wanted.path if saved is None or wanted.lora_rank else str(saved)
        exact = wanted.model_copy(update={"path": path, "dtype": "float32"})
        model, processor = load_model(exact, seed=config.trainer.seed)
        if wanted.lora_rank:
            model = with_adapter(model, wanted, saved)
        if config.actor_rollout_ref.actor.freeze_vision_tower:
            for name, weight in model.named_parameters():
                if "visual" in name or "vision" in name:
                    weight.requires_grad_(requires_grad=False)
        return cls(model, processor, config, accelerator)

    def placed(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Move tensors to the model's device."""
        return {name: tensor.to(self.accelerator.device) for name, tensor in inputs.items()}

    def autocast(self) -> AbstractContextManager[object]:
        """Return a context that computes in the configured type."""
        if self.dtype is torch.float32:
            return nullcontext()
        return torch.autocast(self.accelerator.device.type, dtype=self.dtype)

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Return this process's part of items that all processes hold."""
        return items[self.accelerator.process_index :: self.accelerator.num_processes]

    def log_probs(
        self, batch: SequenceBatch, *, entropy_learns: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Compute log-probabilities and entropy (B, T) of responses at the sampling temperature.

        `entropy_learns` keeps the entropy's graph for the loss, which costs memory.
        """
        logs_BTV = self._logs(batch, self.model)
        with torch.set_grad_enabled(entropy_learns and torch.is_grad_enabled()):
            entropy_BT = entropy_of(logs_BTV)
        return chosen_of(logs_BTV, batch.responses_BT), entropy_BT

    def chosen_log_probs(self, batch: SequenceBatch, model: Any) -> Tensor:
        """Compute the log-probabilities (B, T) by *model*, without a pass for the entropy."""
        return chosen_of(self._logs(batch, model), batch.responses_BT)

    def _logs(self, batch: SequenceBatch, model: Any) -> Tensor:
        """Compute the log-probabilities (B, T, V) of the whole vocabulary."""
        inputs = self.placed(batch.inputs)
        with self.autocast():
            logits = model(
                **inputs, use_cache=False, logits_to_keep=batch.responses_BT.shape[1] + 1
            ).logits
        logits_BTV: Tensor = logits[:, :-1].float() / self._temperature
        return logits_BTV.log_softmax(dim=-1)

    @contextmanager
    def as_it_began(self) -> Iterator[Any]:
        """Yield the policy before its training, with the adapter disabled."""
        with self.bare_model.disable_adapter():
            yield self.bare_model

    @property
    def has_adapter(self) -> bool:
        """Return true if only an adapter is trained."""
        return isinstance(self.bare_model, PeftModel)

    def whole_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Yield each weight under its name in a checkpoint, with an adapter merged in.

        The merge is made on copies: merging into the base and reverting it would leave rounding
        errors.
        """
        model = self.bare_model
        if not self.has_adapter:
            yield from ((name, weight.detach()) for name, weight in model.named_parameters())
            return
        bare = model.get_base_model()
        layers = dict(bare.named_modules())
        for name, weight in bare.named_parameters():
            if "lora_" in name:
                continue
            whole = weight.detach()
            layer = layers.get(name.removesuffix(".base_layer.weight"))
            if layer is not None and name.endswith(".base_layer.weight"):
                whole = whole + layer.get_delta_weight(model.active_adapter).detach()
            yield name.replace(".base_layer", ""), whole

    def save_whole(self, folder: Path) -> None:
        """Write a model that needs no adapter, and its processor."""
        model = self.bare_model
        plain = deepcopy(model).merge_and_unload() if self.has_adapter else model
        plain.save_pretrained(folder)
        self.prompter.processor.save_pretrained(folder)

    def save(self, folder: Path) -> None:
        """Write weights and processor in Hugging Face's format; of an adapter, only its weights."""
        self.bare_model.save_pretrained(folder)
        self.prompter.processor.save_pretrained(folder)


def with_adapter(base: Any, wanted: Model, saved: Path | None) -> Any:
    """Add a low-rank adapter to a frozen model: a new one, or a saved one."""
    if saved is not None:
        return PeftModel.from_pretrained(base, saved, is_trainable=True)
    adapter = LoraConfig(
        r=wanted.lora_rank,
        lora_alpha=wanted.lora_alpha,
        target_modules=wanted.target_modules
        if isinstance(wanted.target_modules, str)
        else list(wanted.target_modules),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(base, adapter)


def end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return the tokens that end a response: those of the model, and the tokenizer's."""
    named = model.generation_config.eos_token_id
    ends = named if isinstance(named, list) else [named]
    return frozenset(end for end in (*ends, tokenizer.eos_token_id) if end is not None)


def picture_ids(model: Any) -> frozenset[int]:
    """Return the tokens that represent a part of an image.

    A response must contain none: the next pass would expect an image that does not exist.
    """
    config = model.config
    named = (getattr(config, f"{kind}_token_{suffix}", None) for kind in ("image", "video")
             for suffix in ("id", "index"))  # fmt: skip
    return frozenset(token for token in named if token is not None)


def chosen_of(logs_BTV: Tensor, responses_BT: Tensor) -> Tensor:
    """Return the log-probabilities (B, T) of the response's tokens."""
    chosen_BT1 = responses_BT.to(logs_BTV.device).unsqueeze(-1)
    return logs_BTV.gather(-1, chosen_BT1).squeeze(-1)


def entropy_of(logs_BTV: Tensor) -> Tensor:
    """Compute the entropy (B, T) of each token's distribution."""
    return -(logs_BTV.exp() * logs_BTV).sum(dim=-1)


def make_schedule(
    optimizer: torch.optim.Optimizer, optim: Optim, *, steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Make the learning rate's schedule over *steps* optimiser steps, with a linear rise first."""
    warm_up = optim.lr_warmup_steps
    if warm_up < 0:
        warm_up = int(optim.lr_warmup_steps_ratio * steps)

    def share(done: int) -> float:
        if done < warm_up:
            return (done + 1) / (warm_up + 1)
        if optim.lr_scheduler_type == "constant":
            return 1.0
        progress = min(1.0, (done - warm_up) / max(1, steps - warm_up))
        low = optim.min_lr_ratio
        return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, share)
