"""ROLL's reward worker: what its `compute_rewards` has to do, for a batch of one or more.

ROLL wants a subclass of its own `Worker`; the page on ROLL shows the few lines around this.
"""

from statistics import fmean
from typing import Any, Protocol, Unpack

from medreward_client.scoring import Options, scorer
from medreward_client.trainers._rows import read_sample
from medreward_client.trainers._signals import figures_of


class Batch(Protocol):
    """What is read of ROLL's `DataProto`."""

    @property
    def batch(self) -> Any:
        """Tensors by name: `responses`."""

    @property
    def non_tensor_batch(self) -> Any:
        """Columns by name: `ground_truth`, and if there are any `question` and `modality`."""

    @property
    def meta_info(self) -> Any:
        """Facts of the step by name: `global_step`."""


class Tokenizer(Protocol):
    """What is asked of the policy's tokenizer."""

    def batch_decode(self, sequences: Any, *, skip_special_tokens: bool) -> list[str]:
        """Turn token numbers into texts."""


def compute_rewards(
    data: Batch, tokenizer: Tokenizer, **options: Unpack[Options]
) -> tuple[dict[str, Any], dict[str, float]]:
    """Score a batch: the tensors for ROLL's answer, and the batch's mean of each component.

    Raises:
        NoReward: the service gave none; a 0 would be all that ROLL could be told instead.
    """
    import torch  # noqa: PLC0415 - it is ROLL's, and this module is imported where it is not

    responses = data.batch["responses"]
    columns = data.non_tensor_batch
    named = {name: columns[name] for name in ("question", "modality") if name in columns}
    samples = [
        read_sample(text, truth, {name: column[row] for name, column in named.items()})
        for row, (text, truth) in enumerate(
            zip(
                tokenizer.batch_decode(responses, skip_special_tokens=True),
                columns["ground_truth"],
                strict=True,
            )
        )
    ]
    outcomes = scorer(**options).score_blocking(samples, step=data.meta_info.get("global_step"))
    rewards = [outcome.number for outcome in outcomes]
    scores = torch.tensor(rewards, dtype=torch.float16)  # The type that ROLL's own workers give.
    tensors = {
        "token_level_rewards": torch.zeros_like(responses, dtype=torch.float16),
        "response_level_rewards": scores,
        "scores": scores.clone(),
    }
    said = [figures_of(outcome) for outcome in outcomes]
    means = {
        f"reward/{name}": fmean(one[name] for one in said if name in one)
        for name in sorted({name for one in said for name in one})
    }
    return tensors, means
