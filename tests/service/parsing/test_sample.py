"""What is decided of a sample without a model, in the published order."""

from functools import cached_property

import pytest

from medreward.errors import InvalidRequest, ProblemKind
from medreward.guards.chain import Decision, GuardChain
from medreward.guards.pair import Pair
from medreward.parsing.completion import Completion
from medreward.parsing.references import MEDIX_MODALITIES, check_modalities
from medreward.parsing.sample import (
    EXACT,
    GUARD_FAILED,
    REJECTED,
    ParsedMemory,
    ParsedSample,
    Said,
    SampleParser,
    counted_bytes,
    parse_sample,
)
from medreward.parsing.signal import Signal
from medreward.recipes.recipe import Recipe, Tags, load_recipes
from medreward.samples import Limits, Sample
from tests.support.sizes import memory_of

MEDIX: Recipe = load_recipes()["medix-r1"]
LIMITS = Limits(response_bytes=1000, text_bytes=100)


def read(
    response: str, reference: str | tuple[str, ...], modality: str | None = None
) -> ParsedSample:
    """Read one sample under `medix-r1`."""
    sample = Sample(response=response, reference=reference, modality=modality)
    return parse_sample(sample, MEDIX, LIMITS)


@pytest.mark.parametrize(
    ("answer", "reference", "accuracy"),
    [
        ("", "effusion", REJECTED),
        ("A", "A", REJECTED),
        ("EMG: neuropathic", "EMG: neuropathic", REJECTED),
        ("effusion?", "effusion", REJECTED),
        ("effusion", "effusion", EXACT),
        (" effusion. ", "effusion.", EXACT),
        ("Effusion", "effusion", None),
        ("120 / 80", "120/80", EXACT),
    ],
)
def test_rejected_answers_come_before_equal_ones(
    answer: str, reference: str, accuracy: Signal | None
) -> None:
    """Rule 3 before rule 4, equality to the letter, and everything else is left to the models."""
    assert read(f"<answer>{answer}</answer>", reference).accuracy == accuracy


@pytest.mark.parametrize(
    ("reference", "modality", "references", "known"),
    [
        ("<X_RAY>left lower lobe.", None, ("left lower lobe",), True),
        ("<x_ray> left lower lobe", None, ("left lower lobe",), True),
        ("left lower lobe", "X_RAY", ("left lower lobe",), True),
        ("p > 0.05", None, ("p > 0.05",), False),
        ("<SONAR>left lower lobe", None, ("<SONAR>left lower lobe",), False),
        (("<X_RAY>left", "<X_RAY>sinistral"), None, ("left", "sinistral"), True),
    ],
)
def test_a_reference_is_taken_apart_only_at_a_modality_tag(
    reference: str | tuple[str, ...],
    modality: str | None,
    references: tuple[str, ...],
    *,
    known: bool,
) -> None:
    """MediX-style references give their modality, and the tag is no part of the answer."""
    parsed = read("<answer>right</answer>", reference, modality)

    assert parsed.references == references
    assert (parsed.modality is not None) is known


@pytest.mark.parametrize(
    ("reference", "modality"),
    [("<X_RAY>left", "CT_SCAN"), (("<X_RAY>left", "<CT_SCAN>left"), None)],
)
def test_contradictory_modalities_are_the_data_sets_fault(
    reference: str | tuple[str, ...], modality: str | None
) -> None:
    """Nobody can tell which one is meant, so the sample is unscored."""
    problem = read("<answer>right</answer>", reference, modality).problem

    assert problem is not None
    assert problem.kind is ProblemKind.INVALID_REFERENCE


def test_a_tag_is_taken_off_whatever_the_recipe_says_of_modalities() -> None:
    """A MediX-style data set works under a recipe without modality tags."""
    plain = MEDIX.model_copy(update={"tags": Tags()})
    sample = Sample(response="<answer>left</answer>", reference="<X_RAY>left")

    assert parse_sample(sample, plain, LIMITS).accuracy == EXACT


@pytest.mark.parametrize(
    ("heading", "modality", "value"),
    [
        ("<X_RAY>", "X_RAY", 1.0),
        ("<x_ray>", "<X_RAY>", 1.0),
        ("X_RAY", "X_RAY", 0.0),
        ("<CT_SCAN>", "X_RAY", 0.0),
        ("Sure! <X_RAY>", "X_RAY", 0.0),
    ],
)
def test_the_modality_is_what_stands_before_the_thinking(
    heading: str, modality: str, value: float
) -> None:
    """The heading equals the tag in any case, with nothing beside it."""
    parsed = read(f"{heading}<thinking>t</thinking><answer>ab</answer>", "cd", modality)

    assert parsed.modality == Signal(value, "rule", rule="modality")


@pytest.mark.parametrize("reference", ["", "  ", "...", "<X_RAY>", ("effusion", " ")])
def test_an_empty_reference_is_the_data_sets_fault(reference: str | tuple[str, ...]) -> None:
    """Nothing can be right against nothing: such a sample is unscored, never 0."""
    parsed = read("<answer>effusion</answer>", reference)

    assert parsed.problem is not None
    assert parsed.problem.kind is ProblemKind.INVALID_REFERENCE


@pytest.mark.parametrize(
    ("response", "reference", "field"),
    [
        ("é" * 501, "effusion", "response"),
        ("<answer>" + "x" * 101 + "</answer>", "effusion", "answer"),
        ("<answer>ab</answer>", "x" * 101, "reference"),
        ("<answer>ab</answer>", ("cd", "é" * 51), "reference[1]"),
    ],
)
def test_what_is_over_its_limit_is_named(
    response: str, reference: str | tuple[str, ...], field: str
) -> None:
    """Limits count bytes of UTF-8, and the problem says which field is over."""
    problem = read(response, reference).problem

    assert problem is not None
    assert problem.kind is ProblemKind.TOO_LONG
    assert problem.message.startswith(f"{field}:")


def test_a_long_answer_that_a_rule_settles_needs_no_model_and_has_no_limit() -> None:
    """The limit is for what a model is asked about."""
    assert read("<answer>" + "why? " * 50 + "</answer>", "effusion").problem is None


def test_a_modality_that_the_recipe_does_not_know_is_refused_by_name() -> None:
    """A misspelt modality would cost every such sample its signal, so the request is refused."""
    samples = (
        Sample(response="a", reference="b", modality="<ct_scan>"),
        Sample(response="a", reference="b", modality="XRAY"),
    )

    with pytest.raises(InvalidRequest, match=r"samples\[1\]\.modality: .* X_RAY, MICROSCOPY"):
        check_modalities(samples, MEDIX)


@pytest.mark.parametrize(
    ("response", "modality", "flags"),
    [
        ("<X_RAY><thinking>t</thinking><answer>ab</answer>", "X_RAY", ()),
        ("<thinking>t</thinking><answer>ab</answer>", None, ("no_modality",)),
        ("ab", "X_RAY", ("no_answer_tag", "malformed")),
        ("<answer>a?</answer>", "X_RAY", ("malformed", "rejected_answer")),
    ],
)
def test_flags_say_what_was_odd(
    response: str, modality: str | None, flags: tuple[str, ...]
) -> None:
    """A low reward explains itself."""
    assert read(response, "cd", modality).flags == flags


def test_medix_r1s_tags_are_the_sixteen() -> None:
    """The tags taken off references are those of the recipe that such data sets were made for."""
    assert MEDIX.tags.modalities == MEDIX_MODALITIES


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        ("The image shows consolidation.", "consolidation"),
        ("**Final answer:** consolidation ✅", "consolidation"),
        ("```\nconsolidation\n```", "consolidation"),
        ('{"answer": "It is consolidation"}', "consolidation"),
        ("I think it is consolidation", "I think it is consolidation"),
    ],
)
def test_models_are_asked_about_a_guarded_answer_without_its_decoration(
    answer: str, asked: str
) -> None:
    """A recipe without guards asks about the bytes between the tags."""
    response = f"<thinking>t</thinking><answer>{answer}</answer>"
    sample = Sample(response=response, reference="infiltrate", question="What is seen?")

    guarded = parse_sample(sample, load_recipes()["medix-r1-guarded"], Limits())
    published = parse_sample(sample, MEDIX, Limits())

    assert (guarded.needs_models, guarded.answer) == (True, asked)
    assert published.answer == answer.strip(".")


class FallingExaminer(GuardChain):
    """Guards of which one has a bug."""

    def decide(self, pair: Pair) -> Decision | None:
        """Fall over."""
        raise ZeroDivisionError(pair.answer.text)


class FallingRecipe(Recipe):
    """A recipe with such guards."""

    @cached_property
    def guard_chain(self) -> GuardChain:
        """The guards."""
        return FallingExaminer((), settles=False)


def test_a_guard_that_falls_over_costs_its_sample_and_no_reward_is_made_up() -> None:
    """The sample has a problem that names no text; it is neither right nor wrong."""
    recipe = FallingRecipe.model_validate(load_recipes()["medix-r1-guarded"].model_dump())
    sample = Sample(response="<thinking>t</thinking><answer>PATIENT</answer>", reference="left")

    parsed = parse_sample(sample, recipe, LIMITS)

    assert parsed.problem is GUARD_FAILED
    assert parsed.accuracy is None
    assert "PATIENT" not in parsed.problem.message


GUARDED: Recipe = load_recipes()["medix-r1-guarded"]


def remembering(memory: ParsedMemory, sample: Sample, recipe: Recipe = GUARDED) -> ParsedSample:
    """Parse one sample as a request of its own."""
    return SampleParser(recipe, Limits(), memory=memory).parse(sample)


def test_what_was_parsed_is_not_parsed_again() -> None:
    """An equal sample of a later request is the same one, whatever stands in its thinking."""
    memory = ParsedMemory(1_000_000)
    one, other = (
        Sample(
            response=f"<thinking>{thought}</thinking><answer>right lung</answer>",
            reference="left lung",
        )
        for thought in ("It is left.", "It is right.")
    )

    assert remembering(memory, one) is remembering(memory, other)


@pytest.mark.parametrize(
    "change",
    [
        {"response": "<answer>right lungs</answer>"},
        {"response": "<answer>right lung</answer> and more"},
        {"reference": "right lung"},
        {"reference": ("left lung", "right lung")},
        {"question": "Which lung?"},
        {"modality": "X_RAY"},
    ],
)
def test_another_sample_is_parsed_by_itself(change: dict[str, object]) -> None:
    """Everything that the outcome depends on is part of what is looked up, the recipe included."""
    memory = ParsedMemory(1_000_000)
    sample = Sample(response="<answer>right lung</answer>", reference="left lung")
    changed = sample.model_copy(update=change)

    remembering(memory, sample)
    for recipe in (GUARDED, MEDIX):
        found = remembering(memory, changed, recipe)
        assert memory_free(found) == memory_free(SampleParser(recipe, Limits()).parse(changed))


def memory_free(parsed: ParsedSample) -> dict[str, object]:
    """Return the parts of a parsed sample, which itself is compared by identity."""
    return {name: getattr(parsed, name) for name in parsed.__slots__}


def test_the_memory_of_samples_is_bounded() -> None:
    """The least recently used one goes first, and a very long one is not kept."""
    most = 100_000
    memory = ParsedMemory(most)
    samples = [
        Sample(response=f"<answer>lung {number}</answer>", reference="left lung")
        for number in range(most // 1_000)
    ]
    first, second = (remembering(memory, sample) for sample in samples[:2])
    for sample in samples[2:]:
        remembering(memory, sample)
        assert remembering(memory, samples[0]) is first
        assert 0 < memory.size_bytes <= most
    assert remembering(memory, samples[1]) is not second

    before = memory.size_bytes
    remembering(memory, Sample(response=f"<answer>{'lung ' * 2_000}</answer>", reference="lung"))
    assert memory.size_bytes == before


@pytest.mark.parametrize("recipe", [MEDIX, GUARDED])
@pytest.mark.parametrize("answer", ["", "right lung", "3 mg \U0001f600 " * 50, "not " * 100])
def test_a_sample_takes_no_more_memory_than_is_counted(recipe: Recipe, answer: str) -> None:
    """The memory is bounded by this estimate, with all that a veto points at."""
    references = tuple(f"left lung {number}" for number in range(32))
    sample = Sample(
        response=f"<X_RAY><thinking>?</thinking><answer>{answer}</answer>",
        reference=references,
        question="Which lung?",
    )
    parsed = SampleParser(recipe, Limits()).parse(sample)
    assert parsed.completion is not None
    said = Said(recipe.name, parsed.completion, sample.reference, sample.question, sample.modality)

    assert memory_of((said, parsed), set()) <= counted_bytes(said, parsed)


def test_a_failed_guard_is_not_remembered() -> None:
    """It may have failed for want of memory, and the next request is to find out."""
    memory = ParsedMemory(1_000_000)
    said = Said("medix-r1", Completion("lung"), "lung", None, None)
    memory.put(said, ParsedSample(problem=GUARD_FAILED))

    assert memory.get(said) is None
