"""Where a response begins and ends in text that was decoded with its special tokens."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward.http.compat.texts import response_in, without_end

QWEN = "<|im_start|>user\nWhich lobe?<|im_end|>\n<|im_start|>assistant\n"
LLAMA = "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nWhich lobe?<|eot_id|>"
SAID = "<X_RAY><thinking>Basal. </thinking><answer>Left  lower</answer>"
LONG = "It is a chest film of an adult, taken in two planes, and it shows a shadow. " * 3
DECOMPOSED = unicodedata.normalize("NFD", "Où est l'œdème?")

ALIGNED = {
    "as it stands": (QWEN + SAID, QWEN),
    "with its end": (f"{QWEN}{SAID}<|im_end|>", QWEN),
    "with padding": (f"{QWEN}{SAID}<|im_end|>\n<|endoftext|><|endoftext|>", QWEN),
    "of another tokenizer": (f"{LLAMA}{SAID}<|eot_id|>", LLAMA),
    "with a start that the prompt lacks": (f"<s> {QWEN}{SAID}</s>", QWEN),
    "without a start that the prompt has": (LLAMA.removeprefix("<|begin_of_text|>") + SAID, LLAMA),
    "with a start twice": (f"<|begin_of_text|>{LLAMA}{SAID}", LLAMA),
    "with spaces moved": (f"[INST] Which  lobe? [/INST] {SAID}</s>", "[INST]Which lobe?[/INST]"),
    "with an image's places": (
        f"<|vision_start|>{'<|image_pad|>' * 256}<|vision_end|>{QWEN}{SAID}",
        f"<|vision_start|><|image_pad|><|vision_end|>{QWEN}",
    ),
    "with composed characters": (unicodedata.normalize("NFC", DECOMPOSED) + SAID, DECOMPOSED),
    "without a prompt": (SAID, ""),
    "with a prompt cut at its start": ((LONG + QWEN)[100:] + SAID, LONG + QWEN),
    "with a prompt cut in the middle of a word": (LONG[2:] + SAID, LONG),
    "of DeepSeek": (
        f"<\uff5cbegin\u2581of\u2581sentence\uff5c>Which lobe?<\uff5cAssistant\uff5c>{SAID}",
        "Which lobe?<\uff5cAssistant\uff5c>",
    ),
}


@pytest.mark.parametrize("name", ALIGNED)
def test_the_response_is_what_follows_the_prompt(name: str) -> None:
    """However the tokenizer went about it, to the letter."""
    assert response_in(*ALIGNED[name]) == SAID


def test_a_long_line_is_no_pile_of_marks() -> None:
    """Signs that are drawn beside each other do not keep the prompt from being normalised."""
    prompt = "\u2500" * 80 + DECOMPOSED
    assert response_in(unicodedata.normalize("NFC", prompt) + SAID, prompt) == SAID


def test_a_response_that_repeats_the_prompt_is_kept_whole() -> None:
    """Only the first prompt is the prompt."""
    assert response_in(QWEN + QWEN + SAID, QWEN) == QWEN + SAID


@pytest.mark.parametrize(
    ("query", "prompt"),
    [
        (SAID, QWEN),
        ("", QWEN),
        (f"Which lobe, then? {SAID}", "Which lobe?"),
        (f"before {QWEN}{SAID}", QWEN),
        (f"shadow. {SAID}", LONG),
    ],
)
def test_what_does_not_begin_with_the_prompt_has_no_response(query: str, prompt: str) -> None:
    """Nothing is guessed: a wrong cut would be a wrong reward."""
    assert response_in(query, prompt) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\n", "a\n"),
        ("a </s>\n", "a"),
        ("<|im_end|>", ""),
        ("a<|im_end|>b", "a<|im_end|>b"),
        ("a<X_RAY>", "a<X_RAY>"),
        ("a<| im_end |>", "a<| im_end |>"),
    ],
)
def test_only_special_tokens_at_the_end_are_taken_away(text: str, expected: str) -> None:
    """A recipe's tags stay, and so does white space that is the policy's own."""
    assert without_end(text) == expected


@pytest.mark.parametrize(
    ("query", "prompt"),
    [
        ("<" * 200_000, "<|" * 100_000 + "x"),
        ("<s>" * 80_000 + "x", "x" * 200_000),
        ("a" * 250_000, "a" * 249_000 + "b"),
        ("ab" * 100_000, "ab" * 90_000 + "c"),
        ("x", "a" + "\u0345\u0301" * 100_000),
        ("x", "\uff9e\u0301" * 100_000),
        ("x", "a" + "\u0f73\u0301" * 100_000),
    ],
)
def test_no_text_takes_long(query: str, prompt: str) -> None:
    """Each is near the limit of a response; a quadratic reading would take minutes, and not end."""
    assert response_in(query, prompt) in {None, ""}
    assert without_end(query) in {query, ""}


@given(st.text(), st.text())
def test_any_prompt_is_found_before_any_response(prompt: str, response: str) -> None:
    """As it stands, whatever they are."""
    assert response_in(prompt + response, prompt) == without_end(response)
