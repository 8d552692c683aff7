"""Reading a response: what the published regular expressions give, in linear time."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from medreward.parsing.completion import read_completion, tighten
from medreward.recipes.recipe import Tags

MEDIX = Tags(thinking="thinking", answer="answer", tighten=True, modalities=("X_RAY",))
LOOSE = Tags(thinking="thinking", answer="answer")

FORMAT = re.compile(r"<thinking>.*?</thinking>\s*<answer>.*?</answer>", re.DOTALL)
ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
SIGNS = re.compile(r"\s*(<|>|/)\s*")

PIECES = st.sampled_from(
    [
        *("<thinking>", "</thinking>", "<answer>", "</answer>", "<X_RAY>", "<answer", "</answ"),
        *("<", ">", "/", " ", "\n", "\t", "\u3000", "\x1c", "."),
        *("left lower lobe", "é", "120 / 80"),
    ]
)
RESPONSES = st.one_of(
    st.lists(PIECES, max_size=60).map("".join),
    st.text(max_size=4096),
    st.text(alphabet="<>/ \nthinkgaswer.", max_size=4096),
)


def published(text: str) -> tuple[str, str, bool]:
    """Answer, heading and format as the published expressions find them."""
    answer = ANSWER.search(text)
    start = text.find("<thinking>")
    well_formed = start >= 0 and FORMAT.fullmatch(text[start:].strip()) is not None
    heading = text[:start].strip() if start >= 0 else ""
    return (answer[1] if answer else text).strip().strip("."), heading, well_formed


@given(RESPONSES)
@example("<thinking></thinking><answer></answer>")
@example("<thinking></thinking><answer>")
@example("<thinking><answer>x</answer></thinking><answer>y</answer>")
@example("<thinking></thinking></thinking> <answer></answer>tail</answer>")
def test_reading_gives_what_the_published_expressions_give(response: str) -> None:
    """Answer, heading and format agree with the regular expressions, with and without rule 1."""
    for tags, text in ((MEDIX, SIGNS.sub(r"\1", response)), (LOOSE, response)):
        completion = read_completion(response, tags)

        assert (completion.answer, completion.heading, completion.well_formed) == published(text)


@given(RESPONSES)
def test_tightening_is_the_published_substitution(text: str) -> None:
    """White space around the three signs goes, and nothing else does."""
    assert tighten(text) == SIGNS.sub(r"\1", text)


@pytest.mark.parametrize(
    "nasty",
    [
        "<answer>",
        "</thinking><answer>",
        "</thinking><answer>x</answer>",
        "</thinking>" + " " * 50,
        "word" + "\n" * 60_000,
        "\\boxed{",
        "\n",
    ],
)
@pytest.mark.parametrize(
    "tags", [MEDIX, LOOSE, Tags(thinking="think", answer="\\boxed"), Tags(answer=None)]
)
def test_a_megabyte_of_anything_is_read(nasty: str, tags: Tags) -> None:
    """No text is a trap: a quadratic reader would need hours for these (see benchmarks/reading.py)."""
    text = "<thinking>" + (nasty * (1_000_000 // len(nasty)))

    assert len(read_completion(text, tags).answer) <= len(text)


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("<answer> Left lower lobe. </answer>", "Left lower lobe"),
        ("<answer>. x .</answer>", " x "),
        ("<thinking><answer>a</answer></thinking><answer>b</answer>", "a"),
        ("no tags at all.", "no tags at all"),
        ("<answer>never closed", "<answer>never closed"),
        ("<answer>120 / 80</answer>", "120/80"),
    ],
)
def test_the_answer_is_the_first_closed_block_or_everything(response: str, answer: str) -> None:
    """The first answer block counts, and the whole response where there is none."""
    assert read_completion(response, MEDIX).answer == answer


@pytest.mark.parametrize(
    ("tags", "response", "answer", "well_formed"),
    [
        (Tags(thinking="think"), "<think>a</think> <answer>b</answer>", "b", True),
        (Tags(thinking="think", answer="\\boxed"), "<think>a</think>so \\boxed{b}", "b", True),
        (
            Tags(thinking="think", answer="\\boxed"),
            r"\boxed{a}</think>\boxed{\frac{1}{2}}",
            r"\frac{1}{2}",
            False,
        ),
        (Tags(thinking=None, answer="\\boxed"), r"it is \boxed{b", r"it is \boxed{b", False),
        (Tags(thinking=None, answer="\\boxed"), r"\boxed{a} </None> tail", "a", True),
        (
            Tags(thinking="think", answer="\\boxed"),
            r"<think>\boxed{a}</think>",
            r"<think>\boxed{a}</think>",
            False,
        ),
        (Tags(thinking=None, answer="answer"), "<answer>b</answer>", "b", True),
        (Tags(thinking=None, answer="answer"), "<answer>b</answer> tail", "b", False),
        (Tags(thinking="think", answer=None), "<think>a</think> b", "b", True),
        (Tags(thinking="think", answer=None), "a</think> b", "b", False),
        (Tags(thinking="think", answer=None), "<think>never closed", "<think>never closed", False),
        (Tags(thinking=None, answer=None), " just text. ", "just text", False),
    ],
)
def test_a_recipe_names_its_own_tags(
    tags: Tags, response: str, answer: str, *, well_formed: bool
) -> None:
    """`<think>`, `<answer>`, a box, or no mark-up at all: the recipe says which."""
    completion = read_completion(response, tags)

    assert (completion.answer, completion.well_formed) == (answer, well_formed)


def test_the_heading_is_what_stands_before_the_first_tag() -> None:
    """The modality belongs there; white space around the signs does not count."""
    completion = read_completion(
        "< X_RAY >\n<thinking> Dense. </thinking>\n<answer>Effusion</answer>", MEDIX
    )

    assert (completion.heading, completion.answer) == ("<X_RAY>", "Effusion")
