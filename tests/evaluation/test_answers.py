"""Extraction of the graded answer from a response."""

from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward_eval.grading.answers import read_answer

PIECES = [
    "<think>",
    "</think>",
    "<THINKING>",
    "</Thinking>",
    "<answer>",
    "</answer>",
    "<X_RAY>",
    "<|im_end|>",
    "</s>",
    "<|channel|>analysis<|message|>",
    "<|channel|>final<|message|>",
    "<",
    "|>",
    " \n",
    "spleen",
    "ß",
]
ENOUGH_S = 5.0
"""CPU seconds of this process, however busy the machine is; a quadratic function takes hours."""

responses = st.text() | st.lists(st.sampled_from(PIECES)).map("".join)


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("B", "B"),
        ("  The spleen.\n", "The spleen."),
        ("", ""),
        ("pO2 < 60 mmHg and pH > 7", "pO2 < 60 mmHg and pH > 7"),
    ],
)
def test_a_response_without_tags_is_its_own_answer(response: str, answer: str) -> None:
    """Other signs are left alone."""
    assert read_answer(response) == answer


@pytest.mark.parametrize(
    "response",
    [
        "<think>liver? no.</think>spleen",
        "<THINK>liver? no.</Think> spleen",
        # Chat templates open the thinking in the prompt.
        "liver? no.</think>spleen",
        "<think></think>spleen",
        # It may think twice, or speak of the tag.
        "<think>liver?</think>liver<think>no.</think>spleen",
        "<think>I must write </think> first</think>spleen",
        "<X_RAY><think>liver?</think>spleen",
        "[THINK]liver? no.[/THINK]spleen",
        "◁think▷liver? no.◁/think▷spleen",
        "<unused94>thought\nliver? no.<unused95>spleen",
        (
            "<|channel|>analysis<|message|>liver? no.<|end|><|start|>assistant"
            "<|channel|>final<|message|>spleen<|return|>"
        ),
        (
            "<|channel|>analysis<|message|>no.<|end|><|start|>assistant"
            "<|channel|>final <|constrain|>json<|message|>spleen"
        ),
    ],
)
def test_thinking_is_no_part_of_the_answer(response: str) -> None:
    """Everything goes up to where it is last closed, also where it was opened in the prompt."""
    assert read_answer(response) == "spleen"


@pytest.mark.parametrize(
    "response",
    [
        "<think>It is the spleen, since",
        "<think>liver?</think>liver<think>It is the spleen, since",
        "<think><answer>spleen</answer> or",
        "<|channel|>analysis<|message|>It is the spleen, since",
    ],
)
def test_who_is_cut_off_while_thinking_has_not_answered(response: str) -> None:
    """Unfinished thinking is not graded, however right it is."""
    assert read_answer(response) == ""


@pytest.mark.parametrize(
    "response",
    [
        "<answer>spleen</answer>",
        "<ANSWER>\nspleen\n</Answer>",
        "<X_RAY><answer>spleen</answer>",
        "<X_RAY><thinking>no <answer>liver</answer></thinking><answer>spleen</answer><|im_end|>",
        "I am sure: <answer>spleen</answer>. Thank you.",
    ],
)
def test_the_one_answer_block_counts(response: str) -> None:
    """Not what stands around it, such as the modality."""
    assert read_answer(response) == "spleen"


def test_an_empty_answer_block_is_an_empty_answer() -> None:
    """The words around it do not take its place."""
    assert read_answer("It is the spleen.<answer> </answer>") == ""


@pytest.mark.parametrize(
    "response",
    [
        "<answer>spleen</answer> or <answer>liver</answer>",
        "<answer>spleen",
        "spleen</answer>",
        "</answer>spleen<answer>",
        "<answer>spleen</answer></answer>",
    ],
)
def test_what_is_ambiguous_is_kept_whole(response: str) -> None:
    """Several blocks, or one that is not closed: to choose would be to guess."""
    assert read_answer(response) == response


@pytest.mark.parametrize(
    "end",
    [
        "<|im_end|>",
        "<|eot_id|>\n",
        " <|im_end|>\n<|endoftext|> ",
        "</s>",
        "<eos>",
        "<end_of_turn>\n",
        "<\uff5cend▁of▁sentence\uff5c>",
    ],
)
def test_tokens_that_end_a_turn_are_no_part_of_the_answer(end: str) -> None:
    """Some servers leave them in the text."""
    assert read_answer(f"spleen{end}") == "spleen"


@given(responses)
def test_every_response_has_an_answer_without_space_around_it(response: str) -> None:
    """Which is a part of the response, whatever that is."""
    answer = read_answer(response)

    assert answer == answer.strip()
    assert answer in response


@given(st.text(st.characters(exclude_characters="<[◁")))
def test_plain_text_stays_as_it_is(response: str) -> None:
    """All but the space around it, and reading it again changes nothing."""
    assert read_answer(response) == response.strip()
    assert read_answer(read_answer(response)) == read_answer(response)


@pytest.mark.parametrize(
    "piece",
    [
        "<think>",
        "</think>",
        "<answer>",
        "<",
        "<|a|>",
        " <|",
        "<|channel|>final",
        "<|channel|>final<|constrain|>",
        "\n",
        "<|" + "a" * 50,
        ">",
        "</s> ",
    ],
)
def test_it_takes_time_in_proportion_to_the_length(piece: str) -> None:
    """A megabyte of anything is read at once."""
    response = piece * (1_000_000 // len(piece))

    began_s = process_time()
    read_answer(response)

    assert process_time() - began_s < ENOUGH_S
