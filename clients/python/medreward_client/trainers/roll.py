"""ROLL's reward worker: the body of its `compute_rewards`, for a batch of one or more.

ROLL needs a subclass of its own `Worker`; the page on ROLL shows the few lines of it.
"""

from statistics import fmean
from typing import Any, Unpack

from medreward_client.scoring import Options, one_by_one, scorer
from medreward_client.trainers._rows import read_sample
from medreward_client.trainers._signals import figures_of
from medreward_client.trainers._texts import without_end


def compute_rewards(
    data: Any, tokenizer: Any, **options: Unpack[Options]
) -> tuple[dict[str, Any], dict[str, float]]:
    """Score a batch; return the tensors that ROLL needs, and the batch's mean of each component.

    `data` is ROLL's `DataProto`: the tensor `responses`, the column `ground_truth` and optionally
    `question` and `modality`, and `global_step` in `meta_info`. `tokenizer` is the policy's.

    Raises:
        NoReward: a sample is unscored; ROLL has no channel for that but a 0.
    """
    import torch  # noqa: PLC0415 - ROLL brings it; this module can be imported without it

    responses = data.batch["responses"]
    columns = data.non_tensor_batch
    named = {name: columns[name] for name in ("question", "modality") if name in columns}
    samples = [
        read_sample(text, truth, {name: column[row] for name, column in named.items()})
        for row, (text, truth) in enumerate(
            zip(
                [_text(tokens, tokenizer) for tokens in responses.tolist()],
                columns["ground_truth"],
                strict=True,
            )
        )
    ]
    outcomes = scorer(**options).score_blocking(
        samples, step=data.meta_info.get("global_step"), ungrouped=one_by_one("ROLL")
    )
    rewards = [outcome.number for outcome in outcomes]
    scores = torch.tensor(rewards, dtype=torch.float16)  # The type that ROLL's own workers return.
    tensors = {
        "token_level_rewards": torch.zeros_like(responses, dtype=torch.float16),
        "response_level_rewards": scores,
        "scores": scores.clone(),
    }
    figures = [figures_of(outcome) for outcome in outcomes]
    means = {
        f"reward/{name}": fmean(one[name] for one in figures if name in one)
        for name in sorted({name for one in figures for name in one})
    }
    return tensors, means


def _text(tokens: list[int], tokenizer: Any) -> str:
    """Decode a response without its end and padding; tags may be special tokens, and stay."""
    around = {tokenizer.pad_token_id, tokenizer.eos_token_id}
    text = tokenizer.decode(
        [token for token in tokens if token not in around], skip_special_tokens=False
    )
    return without_end(text)
