"""What a tokenizer can read, by the characters of its vocabulary."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from medreward.engines.prompts.tokenization import MOST_LETTERS, can_read, known_characters

KNOWN = "éµ≥αвё病"


def word_piece() -> PreTrainedTokenizerFast:
    """A tokenizer of letters, as BERT's is of words."""
    letters = [*string.ascii_lowercase, *string.digits, *string.punctuation, *KNOWN]
    tokens = ["[UNK]", *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


def byte_level() -> PreTrainedTokenizerFast:
    """A tokenizer of bytes, with a token for the unknown that it never writes."""
    signs = ["<|end|>", *pre_tokenizers.ByteLevel.alphabet()]
    tokenizer = Tokenizer(models.BPE({sign: n for n, sign in enumerate(signs)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<|end|>")


@pytest.mark.parametrize(
    ("text", "is_read"),
    [
        ("left lower lobe", True),
        ("pneumonía, Größe", True),  # accents are taken off
        ("µg ≥ 5 α-fetoprotein", True),
        ("ВЕ", False),  # one of two letters is known, and so no word
        ("в ё", True),
        ("肺炎", False),
        ("病", True),
        ("病炎", True),  # half of it
        ("肺炎.", False),
        ("pneumonia 肺炎", True),
        ("✅", False),
        ("", True),
        ("a" * MOST_LETTERS, True),
        ("a" * (MOST_LETTERS + 1), False),
    ],
)
def test_a_text_is_read_if_half_of_it_is_known(text: str, is_read: bool) -> None:
    """By words, since one unknown letter makes a word unknown."""
    assert can_read(text, known_characters(word_piece())) is is_read


def test_bytes_read_any_text() -> None:
    """Such a tokenizer has no unknown tokens, whatever its settings name."""
    assert known_characters(byte_level()) is None
    assert can_read("肺炎", None)


@given(st.text(max_size=30).filter(lambda text: text.isascii()))
def test_ascii_is_always_read(text: str) -> None:
    """The short cut for it changes nothing."""
    assert can_read(text, frozenset())
