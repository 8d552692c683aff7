"""Supervised steps before the first rollout.

If a policy never earns an all-or-nothing reward, the reward teaches it nothing. A few steps on
written responses make it earn the reward sometimes.
"""

import torch

from medreward_trainer.config.config import WarmUp
from medreward_trainer.data.examples import read_examples
from medreward_trainer.data.prompt_order import PromptOrder
from medreward_trainer.data.prompts import Prompt
from medreward_trainer.errors import BadData
from medreward_trainer.run.run import Run
from medreward_trainer.run.timing import StageTimes
from medreward_trainer.update.batches import sequence_batch
from medreward_trainer.update.policy import Policy


def warm_up(run: Run) -> None:
    """Take the supervised steps, if any, and save the result.

    Raises:
        BadData: the files cannot be read, or hold fewer rows than a batch.
    """
    config = run.config.warm_up
    if config.steps == 0:
        return
    rows = responses_of(run, config)
    order = PromptOrder(len(rows), batch=config.batch_size, shuffle=True, seed=run.config.data.seed)
    optimizer = torch.optim.AdamW(run.policy.trained, lr=config.lr)
    for step in range(1, config.steps + 1):
        times = StageTimes()
        with times.stage("warm_up"):
            loss = supervised_step(run.policy, [rows[i] for i in order.take()], optimizer)
        metrics = {"warm_up/loss": loss, "warm_up/lr": config.lr, **times.metrics()}
        run.log.write("warm_up", step, metrics)
        run.check_stop_together()
    run.sampler.take_weights()
    run.freeze_reference()
    run.save()


def supervised_step(
    policy: Policy, rows: list[tuple[Prompt, tuple[int, ...]]], optimizer: torch.optim.Optimizer
) -> float:
    """Raise the probability of written responses; return the mean loss of a token.

    The mean is over the batch of one process; all processes take the same rows.
    """
    batch = sequence_batch([row[0] for row in rows], [row[1] for row in rows], policy.prompter)
    mask_BT = batch.mask_BT.to(policy.accelerator.device)
    policy.model.train()
    optimizer.zero_grad(set_to_none=True)
    chosen_BT = policy.chosen_log_probs(batch, policy.model)
    loss = -(chosen_BT * mask_BT).sum() / mask_BT.sum()
    loss.backward()  # type: ignore[no-untyped-call]  # torch's own
    torch.nn.utils.clip_grad_norm_(policy.trained, 1.0)
    optimizer.step()
    policy.model.eval()
    return float(loss.detach())


def responses_of(run: Run, config: WarmUp) -> list[tuple[Prompt, tuple[int, ...]]]:
    """Read the written responses: each prompt, and the tokens of its response with their end."""
    examples = read_examples(run.config.data, config.files, needs_response=True)
    prompts, _ = run.policy.prompter.prompts_of(examples)
    tokenizer = run.policy.tokenizer
    rows = []
    for prompt in prompts:
        text = prompt.example.response or ""
        tokens = (*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id)
        if len(tokens) > run.config.data.max_response_length:
            raise BadData(
                f"the response of {prompt.example.uid} has {len(tokens)} tokens; shorten it, or "
                "raise data.max_response_length"
            )
        rows.append((prompt, tokens))
    return rows
