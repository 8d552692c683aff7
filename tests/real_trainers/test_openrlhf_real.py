"""OpenRLHF's own rollout code, against a running service: from a prompt to a batch to train on.

What runs is its executor, which decodes, asks for the reward and tries again; its samples
generator, which makes tensors of the answer; and its batching. The engine that generates is a
fake that says what it is told. Ray and vLLM, which need a GPU's libraries, are never called: they
are only imported beside the samples generator, and stand-ins answer to their names.
"""

import asyncio
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from openrlhf.trainer.ppo_utils.experience import (
    Experience,
    make_experience_batch,
    split_experience_batch,
)
from openrlhf.utils.agent import SingleTurnAgentExecutor
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import Unigram
from transformers import PreTrainedTokenizerFast

from medreward_client.trainers import openrlhf as function_file
from tests.real_trainers.byte_tokenizer import SPECIAL, byte_tokenizer
from tests.support.judge_server import Models, Say, equal_is_yes, failing_for
from tests.support.process import Service, serving

KEY = "a key/with?signs"
QUOTED_KEY = "a%20key%2Fwith%3Fsigns"
PROMPT = (
    "<|im_start|>user\nWhere is it? \N{GREEK SMALL LETTER MU}m<|im_end|>\n<|im_start|>assistant\n"
)
LABEL = {"reference": "left lower lobe", "question": "Where is it?", "modality": "X_RAY"}
RIGHT = "<X_RAY><thinking>Basal.</thinking><answer>LEFT LOWER LOBE</answer>"
WRONG = "<X_RAY><thinking>Apical.</thinking><answer>right upper lobe</answer>"
LOST = "<X_RAY><thinking>Unclear.</thinking><answer>lost</answer>"
REWARDS = {RIGHT: 0.6625, WRONG: 0.145}


def piece_tokenizer() -> PreTrainedTokenizerFast:
    """One that composes characters, and moves white space about, as SentencePiece does."""
    signs = sorted(
        {*map(chr, range(32, 127)), "\N{GREEK SMALL LETTER MU}", "\N{LOWER ONE EIGHTH BLOCK}"}
    )
    tokenizer = Tokenizer(Unigram([("<unk>", 0.0), *((sign, -1.0) for sign in signs)], 0, False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace("\n", " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(SPECIAL)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, eos_token=SPECIAL[-1]
    )


class Engine:
    """A fake of the engine that generates: it says what it is told, and ends it."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, says: str) -> None:
        ids = tokenizer(f"{says}{SPECIAL[-1]}", add_special_tokens=False)["input_ids"]
        self._output = SimpleNamespace(
            token_ids=ids, text=says, finish_reason="stop", logprobs=None
        )

    async def generate(self, *_: Any, **__: Any) -> Any:
        """Generate."""
        return SimpleNamespace(outputs=[self._output])


async def roll_out(
    executor: SingleTurnAgentExecutor,
    *responses: str,
    label: Any = LABEL,
    tokenizer: PreTrainedTokenizerFast | None = None,
) -> list[dict[str, Any]]:
    """Let OpenRLHF roll out one prompt, all responses at once."""
    tokenizer = tokenizer or byte_tokenizer()
    params = SimpleNamespace(max_tokens=512, logprobs=None)
    outputs: list[dict[str, Any]] = await asyncio.gather(
        *(
            executor.execute(PROMPT, label, params, 8192, tokenizer, Engine(tokenizer, response))
            for response in responses
        )
    )
    return outputs


@pytest.fixture(scope="session")
def experience_of() -> Iterator[Callable[[dict[str, Any]], Experience]]:
    """OpenRLHF's own step from a rollout to tensors."""
    absent = [
        *("ray", "ray.util", "ray.util.placement_group", "ray.util.scheduling_strategies"),
        *("vllm", "vllm.inputs", "vllm.utils", "deepspeed"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        for name in absent:
            patch.setitem(sys.modules, name, MagicMock())
        from openrlhf.trainer.ppo_utils.samples_generator import (  # noqa: PLC0415 - see above
            SamplesGenerator,
        )

        make = SamplesGenerator._process_response_into_experience  # noqa: SLF001 - what it does with a reply
        yield functools.partial(make, None, max_len=4096)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A service with a key, whose judge fails for one answer."""
    with Models(failing_for("lost")) as models, serving(models, api_keys=KEY) as service:
        yield service


def url(service: Service, query: str = "") -> str:
    """The value of `--reward.remote_url`."""
    return f"{service.url}/compat/openrlhf/{QUOTED_KEY}{query}"


def test_rollouts_get_their_rewards(service: Service) -> None:
    """Over HTTP, the key in the path; each rollout asks for itself, all at once."""
    executor = SingleTurnAgentExecutor([url(service)])
    outputs = asyncio.run(roll_out(executor, *[RIGHT, WRONG] * 16))

    rewards = [output["reward"] for output in outputs]
    assert rewards == [[pytest.approx(REWARDS[said])] for said in [RIGHT, WRONG] * 16]
    assert rewards == [output["scores"] for output in outputs]
    assert outputs[0]["extra_logs"] == {
        "scored": [1.0],
        "accuracy_llm": [1.0],
        "accuracy_embed": [0.0],
        "modality": [1.0],
        "format": [1.0],
    }


def test_a_tokenizer_that_changes_the_prompt_changes_no_reward(service: Service) -> None:
    """The prompt is found in what was decoded, though it is not there as it was sent."""
    executor, tokenizer = SingleTurnAgentExecutor([url(service)]), piece_tokenizer()
    outputs = asyncio.run(roll_out(executor, RIGHT, WRONG, tokenizer=tokenizer))

    decoded = tokenizer.decode(outputs[0]["observation_tokens"], skip_special_tokens=False)
    assert not decoded.startswith(PROMPT)
    assert [output["reward"] for output in outputs] == [
        [pytest.approx(REWARDS[said])] for said in (RIGHT, WRONG)
    ]


@pytest.mark.parametrize("query", ["?on_unscored=zero", "?on_unscored=impute"])
def test_a_batch_of_all_kinds_is_one_to_train_on(
    service: Service, experience_of: Callable[[dict[str, Any]], Experience], query: str
) -> None:
    """Modality known and unknown, scored and not: OpenRLHF joins, parts and stacks them."""
    executor = SingleTurnAgentExecutor([url(service, query)])

    async def rollouts() -> list[dict[str, Any]]:
        known = await roll_out(executor, RIGHT, LOST)
        return known + await roll_out(executor, WRONG, label="left lower lobe")

    experiences = [experience_of(output) for output in asyncio.run(rollouts())]
    joined = Experience.concat_experiences(experiences, pad_token_id=0)
    batch = make_experience_batch(split_experience_batch(joined))

    rewards = batch.rewards.flatten()
    assert torch.isfinite(rewards).all()
    assert rewards[0].item() == pytest.approx(REWARDS[RIGHT])
    assert torch.tensor(batch.info["scored"]).flatten().tolist() == [1.0, 0.0, 1.0]
    assert torch.tensor(batch.info["reward"]).flatten().tolist() == rewards.tolist()


def test_a_lost_reward_is_none_and_never_zero(
    service: Service, experience_of: Callable[[dict[str, Any]], Experience]
) -> None:
    """The service refuses, OpenRLHF gives up after five tries, and its step will say so."""
    (output,) = asyncio.run(roll_out(SingleTurnAgentExecutor([url(service)]), LOST))

    assert output["reward"] is None
    assert experience_of(output).rewards is None


def test_a_judge_that_recovers_costs_a_second(service: Service) -> None:
    """The next try of OpenRLHF's gets the reward."""
    failures = iter(["500"] * 2)

    def recovering(answer: str, reference: str) -> Say:
        return "500" if next(failures, None) else equal_is_yes(answer, reference)

    with Models() as models, serving(models) as fresh:
        models.rule = recovering
        executor = SingleTurnAgentExecutor([f"{fresh.url}/compat/openrlhf"])
        (output,) = asyncio.run(roll_out(executor, RIGHT))

    assert output["reward"] == [pytest.approx(REWARDS[RIGHT])]


def test_a_wrong_key_is_no_reward(service: Service) -> None:
    """OpenRLHF tries a 401 again too, and then has none."""
    executor = SingleTurnAgentExecutor([f"{service.url}/compat/openrlhf/wrong"])
    (output,) = asyncio.run(roll_out(executor, RIGHT))

    assert output["reward"] is None


def test_several_urls_are_used_in_turn(service: Service) -> None:
    """As with replicas behind no balancer."""
    executor = SingleTurnAgentExecutor([url(service), url(service, "?recipe=medix-r1")])
    outputs = asyncio.run(roll_out(executor, RIGHT, WRONG, RIGHT))

    assert [output["reward"] is None for output in outputs] == [False] * 3


# The function file.


@pytest.fixture
def own_file(tmp_path: Path) -> Callable[..., str]:
    """A file of the user's, as docs/trainers/openrlhf.md has it, with options."""

    def write(**options: object) -> str:
        file = tmp_path / "rewards.py"
        file.write_text(
            "from functools import partial\n"
            "from medreward_client.trainers import openrlhf\n"
            f"reward_func = partial(openrlhf.reward_func, **{options!r})\n",
            "utf-8",
        )
        return str(file)

    return write


def test_the_function_file_is_loaded_by_its_path(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Address and key come from the environment."""
    monkeypatch.setenv("MEDREWARD_URL", service.url)
    monkeypatch.setenv("MEDREWARD_API_KEY", KEY)
    executor = SingleTurnAgentExecutor([str(function_file.__file__)])
    outputs = asyncio.run(roll_out(executor, RIGHT, WRONG))

    assert [output["reward"] for output in outputs] == [
        pytest.approx(REWARDS[said]) for said in (RIGHT, WRONG)
    ]
    assert outputs[0]["extra_logs"]["scored"] == 1.0


def test_a_file_of_ones_own_has_options(
    service: Service,
    own_file: Callable[..., str],
    experience_of: Callable[[dict[str, Any]], Experience],
) -> None:
    """And its rewards make the same batches."""
    path = own_file(
        base_url=service.url,
        api_key=KEY,
        on_unscored="zero",
        max_unscored_share=1.0,
        deadline_s=2.0,
    )
    outputs = asyncio.run(roll_out(SingleTurnAgentExecutor([path]), RIGHT, LOST, WRONG))

    joined = Experience.concat_experiences([experience_of(one) for one in outputs], pad_token_id=0)
    batch = make_experience_batch(split_experience_batch(joined))
    assert batch.rewards.tolist() == [pytest.approx(REWARDS[RIGHT]), 0.0, pytest.approx(0.145)]
    assert torch.tensor(batch.info["scored"]).tolist() == [1.0, 0.0, 1.0]


def test_a_restart_is_waited_for(own_file: Callable[..., str]) -> None:
    """The service dies with the question in its hands and comes back; the rollout has its reward."""
    is_asked = threading.Event()

    def hanging(answer: str, reference: str) -> Say:
        if is_asked.is_set() or answer.casefold() != "left lower lobe":
            return equal_is_yes(answer, reference)
        is_asked.set()
        return "silence"

    def restart() -> None:
        assert is_asked.wait(60)
        mortal.kill()
        mortal.start()

    with Models() as models, serving(models) as mortal:
        models.rule = hanging
        restarting = threading.Thread(target=restart)
        restarting.start()
        executor = SingleTurnAgentExecutor([own_file(base_url=mortal.url)])
        (output,) = asyncio.run(roll_out(executor, RIGHT))
        restarting.join()

    assert output["reward"] == pytest.approx(REWARDS[RIGHT])
