"""A judge in vLLM, which this service starts and ends: many prompts concurrently, on GPUs or a CPU.

The verdict comes from the probabilities of the next token, with the same prompts as in
`causal_lm.py`. vLLM forms the batches, and its prefix cache computes shared beginnings once.
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, count
from typing import Any

from transformers import AutoConfig, AutoTokenizer
from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.exceptions import EngineDeadError

from medreward.engines import timeouts
from medreward.engines.capacity import Capacity
from medreward.engines.judge import Inquiry, Judgement
from medreward.engines.judges.next_token import NextTokenJudge
from medreward.engines.judges.vllm_engine import DIED, EngineOptions, VllmEngine, is_on_cpu
from medreward.engines.local.loading import loading
from medreward.engines.templates import Template
from medreward.errors import JUDGE_FAILURES, BackendDown, Problem


class VllmJudge(NextTokenJudge):
    """Judges by the probabilities of the label forms at the verdict position."""

    def __init__(
        self,
        engine: VllmEngine,
        tokenizer: Any,
        *,
        name: str,
        secret: str,
        coverage_floor: float,
        max_prompt_tokens: int,
        timeout_s: float,
        worker: ThreadPoolExecutor,
        count_tokens: Callable[[int, int], None],
    ) -> None:
        super().__init__(
            tokenizer,
            name=name,
            secret=secret,
            coverage_floor=coverage_floor,
            max_prompt_tokens=max_prompt_tokens,
        )
        self._engine = engine
        self._timeout_s = timeout_s
        self._worker = worker
        self.count_tokens = count_tokens
        self._request_ids = map(str, count())
        # The prompts of two steps, so that vLLM is never idle and a late prompt waits briefly.
        self.capacity = Capacity(batch=16 if is_on_cpu() else 64, concurrency=4)

    @classmethod
    def load(
        cls,
        source: str,
        *,
        name: str,
        revision: str | None = None,
        options: EngineOptions,
        secret: str = "",
        coverage_floor: float = 0.2,
        max_prompt_tokens: int = 2048,
        timeout_s: float = 120.0,
        count_tokens: Callable[[int, int], None] = lambda _tokens, _found: None,
        lost: Callable[[str], None] = lambda _: None,
    ) -> "VllmJudge":
        """Load the tokenizer; `start` loads the model.

        *count_tokens* receives the number of each prompt's tokens, and how many of them the prefix
        cache held; *lost* receives the reason when the engine's process dies.

        Raises:
            SetupError: there is no such model.
        """
        with loading("judge", name):
            tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
            config = AutoConfig.from_pretrained(source, revision=revision).get_text_config()
        # The verdict's own token has to fit into the window too.
        window_tokens = int(getattr(config, "max_position_embeddings", max_prompt_tokens + 1))
        max_prompt_tokens = min(window_tokens - 1, max_prompt_tokens)
        # One thread for all blocking work: tokenising, starting and ending the engine.
        worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vllm")
        engine = VllmEngine(
            source,
            revision=revision,
            max_model_len=max_prompt_tokens + 1,
            options=options,
            worker=worker,
            lost=lost,
        )
        return cls(
            engine,
            tokenizer,
            name=f"vllm:{name}:{options.identity}",
            secret=secret,
            coverage_floor=coverage_floor,
            max_prompt_tokens=max_prompt_tokens,
            timeout_s=timeout_s,
            worker=worker,
            count_tokens=count_tokens,
        )

    async def start(self) -> None:
        """Start the engine, or replace it if it died.

        Raises:
            SetupError: the model cannot run with these settings.
            BackendDown: the replacement could not be started this time.
        """
        await self._engine.start()

    async def decide(self, inquiries: Sequence[Inquiry]) -> Sequence[Judgement | Problem]:
        """Judge each inquiry; failures of one inquiry, timeouts included, are its own problem.

        Raises:
            BackendDown: no engine is running.
        """
        if not self._engine.is_up:
            raise BackendDown(DIED)
        prompts = await asyncio.get_running_loop().run_in_executor(
            self._worker, lambda: [self.prompt_ids(inquiry) for inquiry in inquiries]
        )
        judging = [
            asyncio.create_task(self._judge(prompt, inquiry.template))
            for prompt, inquiry in zip(prompts, inquiries, strict=True)
        ]
        try:
            _, late = await asyncio.wait(judging, timeout=timeouts.VLLM * self._timeout_s)
            too_late = JUDGE_FAILURES.problem(timeouts.too_late(self._timeout_s))
            return [too_late if one in late else one.result() for one in judging]
        finally:
            for one in judging:
                one.cancel()
            await asyncio.gather(*judging, return_exceptions=True)

    @property
    def engine_arguments(self) -> Mapping[str, Any]:
        """The arguments of the engine, by vLLM's names."""
        return self._engine.arguments

    async def aclose(self) -> None:
        """End the engine and its processes."""
        await self._engine.aclose()
        self._worker.shutdown(wait=False)

    async def _judge(self, prompt: list[int], template: Template) -> Judgement | Problem:
        if len(prompt) > self._max_prompt_tokens:
            return self._too_long(prompt)
        groups = self.ids_of(template)
        try:
            output = await self._engine.next_token(
                prompt, one_token(groups), next(self._request_ids)
            )
        except (EngineDeadError, BackendDown):
            return JUDGE_FAILURES.problem(BackendDown(DIED))
        self.count_tokens(len(prompt), output.num_cached_tokens or 0)
        return self._judgement(_masses(output, groups), template)


def one_token(groups: Sequence[Sequence[int]]) -> SamplingParams:
    """Build the parameters for one token with the log-probabilities of the labels' tokens only.

    The vocabulary is not masked, so that the probabilities of the labels add up to the coverage.
    """
    return SamplingParams(
        temperature=0.0,
        max_tokens=1,
        logprob_token_ids=[*chain.from_iterable(groups)],
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_clone=True,
    )


def _masses(output: Any, groups: Sequence[Sequence[int]]) -> list[float]:
    """Sum the probabilities of each label's first tokens."""
    found: Mapping[int, Any] = output.outputs[0].logprobs[0]
    return [math.fsum(math.exp(found[i].logprob) for i in ids) for ids in groups]
