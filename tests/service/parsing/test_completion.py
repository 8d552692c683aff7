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
        "```",
        "<|im_end|>",
        " <",
        "\\boxed{",
        "\n",
    ],
)
@pytest.mark.parametrize(
    "tags", [MEDIX, LOOSE, Tags(thinking="think", answer="\\boxed"), Tags(answer=None)]
)
@pytest.mark.parametrize("as_meant", [False, True])
def test_a_megabyte_of_anything_is_read(nasty: str, tags: Tags, *, as_meant: bool) -> None:
    """No text is a trap: a quadratic reader would need hours for these (see benchmarks/reading.py)."""
    text = "<thinking>" + (nasty * (1_000_000 // len(nasty)))

    assert len(read_completion(text, tags, as_meant=as_meant).answer) <= len(text)


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


END_TOKENS = (
    *("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "</s>", "<end_of_turn>"),
    *("<\uff5cend\u2581of\u2581sentence\uff5c>", "[EOS]"),
)


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        # Tags within the thinking are part of it.
        ("<thinking>I put it in <answer> tags.</thinking><answer>left</answer>", "left"),
        ("<thinking><answer>right</answer>? No.</thinking><answer>left</answer>", "left"),
        ("<thinking>The tag <thinking> opens it.</thinking><answer>left</answer>", "left"),
        # A tag may be in any case and have white space inside.
        ("<thinking>t</thinking><Answer>left</Answer>", "left"),
        ("<Thinking>t</Thinking> < answer >left</ answer >", "left"),
        *((f"<thinking>t</thinking><answer>left</answer>{token}", "left") for token in END_TOKENS),
        ("<thinking>t</thinking><answer>left</answer>\n<|im_end|>\n<|im_end|>\n", "left"),
        ("<thinking>t</thinking><answer>```\nleft lung\n```</answer>", "left lung"),
        ("<thinking>t</thinking><answer>```text\nleft\n```</answer>", "left"),
        ("<thinking>t</thinking><answer>```B```</answer>", "B"),
        ('<thinking>t</thinking><answer>{"answer": "B"}</answer>', "B"),
        ('<thinking>t</thinking><answer>```json\n{"answer": "B"}\n```</answer>', "B"),
    ],
)
def test_a_guarded_reading_takes_mark_up_as_meant(response: str, answer: str) -> None:
    """Such a response has its form and one answer; to the letter it has neither or other text."""
    meant = read_completion(response, LOOSE, as_meant=True)
    assert (meant.answer, meant.well_formed, meant.has_one_answer, meant.is_single) == (
        answer,
        True,
        True,
        True,
    )
    assert meant != read_completion(response, LOOSE)


@pytest.mark.parametrize(
    "response",
    [
        "<thinking>t</thinking><answer>left</answer> or <answer>right</answer>",
        "<thinking>t</thinking><answer>left<|im_end|></answer>",
        "<thinking>t</thinking><answer>left</answer><|im_end|> Question: what else?",
        "<thinking>t</thinking><answer>left",
        "<thinking>never closed, <answer>left</answer>",
        "<answer>left</answer><thinking>t</thinking>",
        "<thinking>t</thinking><answer>```left``` ```right```</answer>",
        "<thinking>t</thinking><answer>```left```, I am sure</answer>",
        '<thinking>t</thinking><answer>{"answer": "B", "score": 1}</answer>',
        '<thinking>t</thinking><answer>{"answer": "B", "answer": "C"}</answer>',
        '<thinking>t</thinking><answer>{"verdict": "YES"}</answer>',
        '<thinking>t</thinking><answer>{"answer": ["B"]}</answer>',
        '<thinking>t</thinking><answer>{"answer": "B"} {"answer": "B"}</answer>',
    ],
)
def test_a_guarded_reading_takes_nothing_else(response: str) -> None:
    """Second answers, tokens inside the answer, further keys and text stay for the guards to see."""
    assert read_completion(response, LOOSE, as_meant=True) == read_completion(response, LOOSE)


@given(RESPONSES)
def test_a_guarded_reading_of_plain_responses_is_the_literal_one(response: str) -> None:
    """Without tags in the thinking, gaps in tags, fences and end tokens the two agree."""
    plain = re.sub(r"[`{}]|</?s>|\s+(?=[<>/a-z])", "", response)
    literal = read_completion(plain, LOOSE)
    order = re.findall("</?(?:thinking|answer)>", plain)
    if order == ["<thinking>", "</thinking>", "<answer>", "</answer>"]:
        assert read_completion(plain, LOOSE, as_meant=True) == literal


def test_a_deeply_nested_object_is_no_answer_of_its_own() -> None:
    """JSON of any depth is left as it is."""
    text = '{"answer":' * 50_000 + '"B"' + "}" * 50_000
    assert read_completion(f"<answer>{text}</answer>", LOOSE, as_meant=True).answer == text
