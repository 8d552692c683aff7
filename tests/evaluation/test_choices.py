"""Multiple choice without a judge."""

import string
from itertools import product
from string import ascii_uppercase
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward.guards.chain import GRADING
from medreward.guards.normal import normal
from medreward.guards.pair import Pair
from medreward_eval.grading.choices import lettered, normalised, right_option, settle_choice

ORGANS = ("Liver", "Pancreas", "Spleen", "The left kidney")
BLOOD = ("B", "A", "AB", "O")
YES_NO = ("yes", "no", "maybe")

WORDS = st.text(string.ascii_lowercase, min_size=3, max_size=12).filter(
    lambda word: word not in {"the", "and", "answer", "option", "choice"}
)
OPTIONS = st.lists(WORDS, min_size=2, max_size=10, unique=True)


@pytest.mark.parametrize(
    "answer",
    [
        "B",
        "b",
        "(B)",
        "B.",
        "**B**",
        "Option B",
        "option (b).",
        "Answer: B",
        "Pancreas",
        "The pancreas",
        "B. Pancreas",
        "B) pancreas.",
        "B - Pancreas",
        r"\boxed{B}",
        r"$\boxed{\text{B}}$",
        "The answer is B.",
        "The correct answer is: **B. Pancreas**",
        "It secretes insulin.\n\nTherefore, the answer is B.",
        "Final answer: Pancreas",
        "The answer is B.\nThus, the final answer is (B).",
    ],
)
def test_the_right_option_in_plain_words_is_right(answer: str) -> None:
    """Letter, text or both, alone or as what the answer is said to be."""
    assert settle_choice(answer, "Pancreas", ORGANS) is True
    assert settle_choice(answer, "B", ORGANS) is True


@pytest.mark.parametrize("answer", ["C", "Spleen", "C. Spleen", "The answer is C."])
def test_another_option_in_plain_words_is_wrong(answer: str) -> None:
    """An answer that plainly names another option needs no judge either."""
    assert settle_choice(answer, "Pancreas", ORGANS) is False


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "B or C",
        "B, not C",
        "Not B",
        "B. Spleen",
        "The answer is not B.",
        "The answer is B because it has islets",
        "The answer is B.\nNo, the answer is C.",
        "A. Liver\nB. Pancreas\nC. Spleen\nD. The left kidney",
        "A bile duct",
        "E",
        "Whether the answer is B is unclear",
        "Many say the wrong answer is B",
        "pancreatic tail",
        "If he were older, the answer is B",
        "Answer: B\n\nIt is the only one with islets.",
        "The answer is B.\nWait, that is wrong. I choose C.",
        "I do not think the answer is B",
        "kidney\nC",
    ],
)
def test_what_is_not_plain_is_left_to_the_judge(answer: str) -> None:
    """Two options, a letter with another's text, a denial, a reason: a judge has to read those."""
    assert settle_choice(answer, "Pancreas", ORGANS) is None


@pytest.mark.parametrize(
    ("answer", "reference", "options", "is_right"),
    [
        # For blood groups `A` is an option's text and another option's letter.
        ("A", "A", BLOOD, None),
        ("B", "O", BLOOD, None),
        ("AB", "AB", BLOOD, True),
        ("D", "O", BLOOD, True),
        # An open question is the judge's, even if the answer is a letter.
        ("B", "B", (), None),
        # Which of two equal options is meant, no text can tell.
        ("lung", "lung", ("lung", "Lung", "heart"), None),
        # A point, a superscript or a sign at the edge makes another number.
        ("5 mg", ".5 mg", (".5 mg", "none"), None),
        ("109/L", "10⁹/L", ("10⁹/L", "none"), None),
        ("5", "-5", ("-5", "none"), None),
        ("5", "≤5", ("≤5", "none"), None),
    ],
)
def test_an_option_that_could_be_another_is_left_to_the_judge(
    answer: str, reference: str, options: tuple[str, ...], is_right: bool | None
) -> None:
    """Letters as options, equal options, other numbers, and no options at all."""
    assert settle_choice(answer, reference, options) is is_right


def test_a_reference_may_go_on_after_the_option() -> None:
    """PubMedQA's references are a decision and, on the next line, its reasons."""
    reference = "yes\nHypothermia was more common in the treated group."

    assert right_option(reference, YES_NO) == 0
    assert settle_choice("Yes.", reference, YES_NO) is True
    assert settle_choice("C", reference, YES_NO) is False


def test_the_judge_is_shown_letter_and_text() -> None:
    """A candidate may use either."""
    assert lettered("Pancreas", ORGANS) == "B. Pancreas"
    assert lettered("b", ORGANS) == "B. Pancreas"
    assert lettered("yes\nBecause.", YES_NO) == "A. yes\nBecause."
    assert lettered("gall bladder", ORGANS) == "gall bladder"
    assert lettered("Pancreas", ()) == "Pancreas"


@given(OPTIONS, st.data())
def test_letter_and_text_stand_for_each_other(options: list[str], data: st.DataObject) -> None:
    """Either may be the answer and either the reference, whatever the options."""
    right = data.draw(st.integers(0, len(options) - 1))
    said = data.draw(st.integers(0, len(options) - 1))
    letter, text = string.ascii_uppercase[said], options[said]
    answer = data.draw(st.sampled_from([letter, text, f"{letter}. {text}", f"({letter})"]))
    reference = data.draw(st.sampled_from([string.ascii_uppercase[right], options[right]]))

    assert settle_choice(answer, reference, options) is (said == right)


@given(st.text(), st.text(), st.lists(st.text(), max_size=12))
def test_any_texts_at_all_are_settled_or_left(
    answer: str, reference: str, options: list[str]
) -> None:
    """Nothing that a model writes is an error."""
    assert settle_choice(answer, reference, options) in {True, False, None}


@pytest.mark.parametrize(
    "piece", ["answer is ", "the ", "(", "answer: answer: ", "\n", "**", "so "]
)
def test_long_answers_are_read_at_once(piece: str) -> None:
    """No text makes the patterns go back and forth."""
    began_s = process_time()
    settle_choice(piece * (19_000 // len(piece)), "Pancreas", ORGANS)

    # Of this process alone, however busy the machine is; going back and forth takes hours.
    assert process_time() - began_s < 5


SHAPES = (
    *(
        "{letter}",
        "({letter})",
        "{letter}.",
        "**{letter}**",
        "{letter}) {text}",
        "{letter}. {text}",
    ),
    *("{text}", "{text}.", "The answer is {letter}.", "The answer is {text}.", "Option {letter}"),
    *(
        "The best answer is ({letter}) {text}",
        "$\\boxed{{{letter}}}$",
        "I think so.\nAnswer: {letter}",
    ),
)
OF_OPTIONS = (
    ("Aspirin", "Heparin", "Warfarin"),
    ("yes", "no", "maybe"),
    ("A", "B", "AB", "0"),
    ("5 mg", "50 mg", "0.5 g"),
    ("left lower lobe", "right lower lobe"),
    ("All of the above", "None of the above", "pneumonia"),
)


@pytest.mark.parametrize("options", OF_OPTIONS, ids="/".join)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_service_does_not_contradict_what_is_settled_here(
    shape: str, options: tuple[str, ...]
) -> None:
    """Its rules and guards agree with a plain choice, or leave it to the judge."""
    choices = "\n".join(f"{ascii_uppercase[n]}. {text}" for n, text in enumerate(options))
    question = normal(f"Which?\n\nChoices:\n{choices}")
    contradicted = []
    for right, said in product(range(len(options)), repeat=2):
        answer = shape.format(letter=ascii_uppercase[said], text=options[said])
        reference = lettered(ascii_uppercase[right], options)
        is_right = settle_choice(answer, ascii_uppercase[right], options)
        found = GRADING["equivalence"].decide(Pair(normal(answer), normal(reference), question))
        if is_right is not None and found is not None and found.says_yes is not is_right:
            contradicted.append((answer, reference, found.rule))

    assert contradicted == []


def test_a_pile_of_marks_is_cut_before_it_is_normalised() -> None:
    """Putting marks into order takes the square of their number; text with accents stays the same."""
    pile = "a" + "\u0345\u0301" * 1000

    assert len(normalised("NFC", pile)) <= 31
    assert normalised("NFC", "Me\u0301nie\u0300re") == "M\u00e9ni\u00e8re"
    assert normalised("NFKC", "\uff12 \u339d") == "2 cm"
