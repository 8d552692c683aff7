"""The vLLM judge on a real model: the same verdicts as transformers', from many prompts at once."""

import asyncio
import json
from pathlib import Path

import pytest

from medreward.engines.judge import Inquiry, Judgement, is_sound
from medreward.engines.judges.causal_lm import CausalLmJudge
from medreward.engines.judges.vllm import VllmJudge
from medreward.engines.templates import load_templates
from medreward.errors import Problem, ProblemKind
from medreward.parsing.sample import parse_sample
from medreward.recipes.recipe import load_recipes
from medreward.samples import Limits, Sample
from medreward.telemetry.metrics import Metrics
from tests.conftest import RealEngines

ROLLOUTS = Path(__file__).parents[2] / "examples" / "rollouts.jsonl"
TEMPLATES = load_templates()
MATCH = TEMPLATES["match"]

SAME = 1e-3
"""How far the two engines' float32 probabilities may lie apart: they order their sums otherwise."""


def inquiries_of_the_examples() -> list[Inquiry]:
    """Every distinct question that the example rollouts leave to the judge."""
    recipe = load_recipes(())["medix-r1"]
    template = TEMPLATES[recipe.template]
    samples = [Sample(**json.loads(line)) for line in ROLLOUTS.read_text("utf-8").splitlines()]
    parsed_samples = [parse_sample(sample, recipe, Limits()) for sample in samples]
    shown = template.shows_question
    return list(
        dict.fromkeys(
            Inquiry(template, parsed.answer, reference, parsed.question if shown else None)
            for parsed in parsed_samples
            if parsed.needs_models
            for reference in parsed.references
        )
    )


def grouped(groups: int, members: int) -> list[Inquiry]:
    """Groups of prompts that share question and reference, as a trainer sends them."""
    question = "Which part of the lung shows the opacity on this frontal radiograph of the chest?"
    return [
        Inquiry(
            TEMPLATES["equivalence"],
            answer=f"lobe {member} of the lung",
            reference=f"finding number {group}, in the left lower lobe of the lung",
            question=question,
        )
        for group in range(groups)
        for member in range(members)
    ]


def only_judgements(answers: object) -> list[Judgement]:
    """Where every inquiry has an answer."""
    assert isinstance(answers, list)
    assert all(isinstance(answer, Judgement) for answer in answers)
    return answers


@pytest.mark.anyio
async def test_it_agrees_with_transformers(judge: VllmJudge, language_model: RealEngines) -> None:
    """On every example rollout: the same verdict, and P(YES) and coverage to 1e-3 in float32."""
    inquiries = inquiries_of_the_examples()
    reference = language_model.judge
    assert isinstance(reference, CausalLmJudge)
    assert [judge.prompt_ids(i) for i in inquiries] == [reference.prompt_ids(i) for i in inquiries]

    ours = only_judgements(await judge.decide(inquiries))
    theirs = only_judgements(await reference.decide(inquiries))

    assert len(ours) > 50
    assert all(is_sound(j, i) for j, i in zip(ours, inquiries, strict=True))
    assert [j.verdict for j in ours] == [j.verdict for j in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one.p_yes == pytest.approx(other.p_yes, abs=SAME)
        assert one.coverage == pytest.approx(other.coverage, abs=SAME)


@pytest.mark.anyio
async def test_every_template_is_judged_alike(
    judge: VllmJudge, language_model: RealEngines
) -> None:
    """Grades and rubrics too: each label gets the share that transformers gives it."""
    inquiries = [
        Inquiry(template, "a nodule", "a mass of 5 mm", "What is seen?", "Names the size")
        for template in TEMPLATES.values()
    ]

    ours = only_judgements(await judge.decide(inquiries))
    theirs = only_judgements(await language_model.judge.decide(inquiries))

    for one, other in zip(ours, theirs, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=SAME)


@pytest.mark.anyio
async def test_what_is_in_flight_changes_nothing(judge: VllmJudge) -> None:
    """Alone or among others, computed or found in the prefix cache: the same to 1e-4 in float32."""
    inquiries = grouped(groups=3, members=3)

    together = only_judgements(await judge.decide(inquiries))
    alone = [only_judgements(await judge.decide([inquiry]))[0] for inquiry in inquiries]

    for one, other in zip(together, alone, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)
        assert one.coverage == pytest.approx(other.coverage, abs=1e-4)


@pytest.mark.anyio
async def test_a_prompt_that_is_too_long_is_named_and_its_neighbours_are_judged(
    judge: VllmJudge,
) -> None:
    """Nothing is cut off, and the engine is not asked."""
    long = Inquiry(MATCH, answer="γ-globulin " * 1000, reference="b")
    brief = Inquiry(MATCH, answer="left lung", reference="right lung")

    first, problem, last = await judge.decide([brief, long, brief])

    assert isinstance(problem, Problem)
    assert problem.kind is ProblemKind.TOO_LONG
    assert "it reads at most 2048" in problem.message
    assert isinstance(first, Judgement)
    assert isinstance(last, Judgement)


@pytest.mark.anyio
async def test_the_longest_prompt_that_is_read_is_asked(judge: VllmJudge) -> None:
    """At the limit itself there is room for the verdict's own token, whatever it is."""
    words = 0
    while len(judge.prompt_ids(Inquiry(MATCH, "lung " * (words + 1), "b"))) <= 2048:
        words += 1

    (answer,) = await judge.decide([Inquiry(MATCH, "lung " * words, "b")])

    said = answer.kind if isinstance(answer, Problem) else answer
    assert said is ProblemKind.JUDGE_UNPARSEABLE or isinstance(said, Judgement)


@pytest.mark.anyio
async def test_a_group_shares_its_prefix(judge: VllmJudge, metrics: Metrics) -> None:
    """Of prompts in eight groups of eight, sent at once, most tokens come from the prefix cache."""
    inquiries = grouped(groups=8, members=8)
    before = tokens_by_source(metrics)

    await judge.decide(inquiries)

    after = tokens_by_source(metrics)
    found = after["prefix_cache"] - before["prefix_cache"]
    computed = after["computed"] - before["computed"]
    assert found + computed == sum(len(judge.prompt_ids(inquiry)) for inquiry in inquiries)
    assert found / (found + computed) > 0.6


def tokens_by_source(metrics: Metrics) -> dict[str, float]:
    """What vLLM said of each prompt, as /metrics shows it."""
    name = "medreward_judge_prompt_tokens_total"
    return {
        source: metrics.registry.get_sample_value(name, {"source": source}) or 0.0
        for source in ("computed", "prefix_cache")
    }


@pytest.mark.anyio
async def test_what_was_judged_before_the_time_ran_out_counts(judge: VllmJudge) -> None:
    """The rest of the batch is a time-out, and is given up: the engine does not go on with it."""
    brief = Inquiry(MATCH, answer="left lung", reference="right lung")
    timeout_s = judge._timeout_s  # noqa: SLF001 - a setting, not behaviour

    try:
        # A busy machine needs longer for the first of them, and as much longer for the others.
        for attempt in range(5):
            judge._timeout_s = 3.0 * 2**attempt  # noqa: SLF001 - the same
            # Texts that no earlier attempt has left in the engine's cache.
            long = [Inquiry(MATCH, f"{attempt} {n} " + "lung " * 1500, "b") for n in range(16)]
            first, *rest = await judge.decide([brief, *long])
            if isinstance(first, Judgement):
                break
    finally:
        judge._timeout_s = timeout_s  # noqa: SLF001 - the same

    assert isinstance(first, Judgement)
    assert any(isinstance(a, Problem) and a.kind is ProblemKind.JUDGE_TIMEOUT for a in rest)
    assert unfinished(judge) == 0


@pytest.mark.anyio
async def test_what_is_given_up_is_not_gone_on_with(judge: VllmJudge) -> None:
    """A batch that is cancelled leaves nothing behind in the engine, which judges the next."""
    batch = asyncio.create_task(judge.decide(grouped(groups=8, members=2)))
    while not unfinished(judge):  # noqa: ASYNC110 - vLLM offers no event
        await asyncio.sleep(0.01)

    batch.cancel()
    await asyncio.gather(batch, return_exceptions=True)

    assert unfinished(judge) == 0
    only_judgements(await judge.decide(grouped(groups=1, members=1)))


def unfinished(judge: VllmJudge) -> int:
    """How many prompts the engine still has."""
    count: int = judge._engine._llm.get_num_unfinished_requests()  # noqa: SLF001 - nothing shows it outside
    return count
