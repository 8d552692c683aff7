"""A text folded for detection, and where its words stand in the text as it came."""

import unicodedata
from itertools import pairwise
from string import ascii_lowercase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward.guards.chain import GUARDS
from medreward.guards.normal import (
    BYTES_A_LETTER,
    BYTES_A_WORD,
    CACHE_BYTES,
    MAX_CACHED,
    MAX_MARKS,
    TEXTS_SHARE,
    WORDS_SHARE,
    Normal,
    WordMemory,
    cache_bytes,
    clear_cache,
    counted_bytes,
    is_same,
    limit_cache,
    normal,
    stem,
)
from medreward.guards.pair import Pair
from medreward.guards.polarity import shapes
from medreward.guards.settling import settle
from medreward.guards.witness import has_witness
from tests.support.sizes import memory_of

ODD = st.text(st.sampled_from("aеο éβ\u0301\u200b\u200d⁹½／＜क्ি左\u3164\n.5İß")) | st.text()


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("10⁹/L", "10^9/l"),
        ("1½ tablets", "1 1/2 tablets"),
        ("SpO₂", "spo2"),
        ("5 \u00b5g", "5 μg"),
        ("Me\u0301nie\u0300re", "ménière"),
        ("\uff1c\uff5cim_end\uff5c\uff1e", "<|im_end|>"),
        ("pneu\u200bmonia", "pneumonia"),
        ("lеft", "left"),
        ("nοdule", "nodule"),
        ("TNFα, NFκB, β2, μg", "tnfα, nfκb, β2, μg"),
        ("3–5 cm", "3-5 cm"),
        ("Crohn’s\u00a0disease", "crohn's disease"),
        ("\ufeffyes", "yes"),
        ("\u3164\u2800", ""),
    ],
)
def test_what_looks_alike_is_alike(text: str, folded: str) -> None:
    """Powers stay powers, disguises fall, and the Greek of medicine stays Greek."""
    assert Normal(text).folded == folded


def test_joiners_stay_where_they_shape_letters() -> None:
    """A joiner inside a Hindi word is part of it; inside a Latin one it is hidden."""
    assert Normal("रक्त\u200dस्राव").hidden == ()
    assert Normal("le\u200dft").hidden == ((2, 3),)


@pytest.mark.parametrize("text", ["निमोनिया", "নিউমোনিয়া", "ménière", "폐렴"])
def test_marks_belong_to_their_word(text: str) -> None:
    """A word is one word, composed or taken apart, whatever its signs of vowels."""
    assert len(Normal(text).words) == 1
    assert Normal(unicodedata.normalize("NFD", text)).tokens == Normal(text).tokens


def test_words_stand_where_they_stood() -> None:
    """A word's place is that in the text as it came, hidden signs and all."""
    text = "a\u200b\u200bcute ﬁbrosis ½"
    words = Normal(text).words
    assert [(w.text, text[w.start : w.end]) for w in words[:2]] == [
        ("acute", "a\u200b\u200bcute"),
        ("fibrosis", "ﬁbrosis"),
    ]


@given(ODD)
def test_places_lie_inside_the_text_and_in_order(text: str) -> None:
    """Every word has a place in the text, and the places never run backwards."""
    words = Normal(text).words
    assert all(0 <= w.start < w.end <= len(text) for w in words)
    assert all(a.start <= b.start and a.end <= b.end for a, b in pairwise(words))
    assert tuple(word.text for word in words) == Normal(text).tokens


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_is_lowered_and_no_more(text: str) -> None:
    """A text of ASCII keeps its length, so that places are the same in both."""
    assert Normal(text).folded == text.lower()


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [("A  b\n", "a B", True), ("a\u00a0b", "a b", True), ("ab", "a b", False)],
)
def test_white_space_makes_no_difference(one: str, other: str, *, expected: bool) -> None:
    """Two texts are the same whatever stands between their words, if something does."""
    assert is_same(normal(one), normal(other)) is expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("lobes", "lobe"),
        ("biopsies", "biopsy"),
        ("diseases", "disease"),
        ("metastatic", "metastat"),
    ],
)
def test_endings_make_no_difference(one: str, other: str) -> None:
    """A plural and its singular have, but for a last `y`, one stem."""
    assert stem(one).startswith(stem(other).removesuffix("y"))


def test_marks_beyond_those_of_any_script_are_not_read() -> None:
    """A character keeps thirty marks; its place in the text is that of all its marks."""
    text = Normal("left e" + "\u0301" * 80 + "d")
    assert text.folded == Normal("left e" + "\u0301" * MAX_MARKS + "d").folded
    assert text.words[-1][1:] == (5, 87)


def test_plain_text_has_no_accents() -> None:
    """An accent that a typist left out is found all the same."""
    assert Normal("Ménière").plain == "meniere"


@pytest.mark.parametrize(("text", "size"), [("left lung", 2), ("左下叶肺炎", 3), ("", 0)])
def test_scripts_without_spaces_have_a_size_too(text: str, size: int) -> None:
    """Two signs of Chinese count as a word."""
    assert Normal(text).size == size


@pytest.mark.parametrize(
    "text",
    [
        "left lower lobe pneumonia",
        "5 mg of morphine every 4 hours; L4-L5 disc, stage IIB, hypoechoic lesion, no fever. " * 12,
        "肺炎と左の胸水。" * 30,
        "α-fetoprotein 3–5 µg/L " * 20,
        "ﷺ" * 50,
    ],
)
def test_a_text_takes_no_more_memory_than_is_counted(text: str) -> None:
    """The cache of texts is bounded by this estimate, after all guards have read the text."""
    found = Normal(text)
    for pair in (Pair(found, Normal("right lung, 3 mg"), Normal("Which?")), Pair(found, found)):
        for guard in GUARDS.values():
            guard(pair)
        settle(pair)
        has_witness(pair)

    assert memory_of(found, set()) <= counted_bytes(found)


def test_the_cache_of_texts_is_bounded() -> None:
    """The text that was used least recently goes first, and a very long one is not kept."""
    clear_cache()
    first = normal("left lung")
    for number in range(6_000):
        normal(f"{number} " + "effusion " * 20)
    assert CACHE_BYTES // TEXTS_SHARE // 2 < cache_bytes() <= CACHE_BYTES
    assert normal("left lung") is not first

    before = cache_bytes()
    normal("lung " * 10_000)
    assert cache_bytes() == before


def test_the_memory_of_words_is_bounded() -> None:
    """A word is looked up once; a long run of letters is never kept, and a full memory starts anew."""
    asked: list[str] = []

    def size(word: str) -> int:
        asked.append(word)
        return len(word)

    sizes = WordMemory(size)
    long = "a" * (MAX_CACHED + 1)

    assert [sizes[word] for word in ("lung", "lung", long, long)] == [4, 4, 41, 41]
    assert asked == ["lung", long, long]

    most = CACHE_BYTES // WORDS_SHARE
    for number in range(most // BYTES_A_WORD):
        assert sizes[f"{number}"]
        assert sizes.counted_bytes <= most
    assert sizes.counted_bytes < most // 2


def test_a_word_takes_no_more_memory_than_is_counted() -> None:
    """Words with many meanings, and characters that become several, are counted high enough."""
    words = [f"hypo{one}{two}aemia" for one in "aeiou" for two in ascii_lowercase]
    folded = WordMemory(lambda word: Normal(word).folded)
    for word in words:
        assert shapes[word]
        assert folded[f"{word}\ufdfa"]

    for memory in (shapes, folded):
        kept = {word: dict.get(memory, word) for word in memory if word.startswith("hypo")}
        counted = sum(BYTES_A_WORD + BYTES_A_LETTER * len(word) for word in kept)
        assert memory_of(kept, set()) <= counted


def test_a_smaller_memory_forgets_sooner() -> None:
    """The setting bounds texts and words together; with none, nothing is remembered."""
    try:
        limit_cache(0)
        assert normal("left upper lobe") is not normal("left upper lobe")
    finally:
        limit_cache(CACHE_BYTES)


def test_what_is_found_beside_a_text_is_kept_for_that_text() -> None:
    """A reference is read again beside another question, and beside the same one only once."""
    reference, one, other = Normal("left"), Normal("Which side?"), Normal("Where?")
    asked: list[str] = []

    def words(text: Normal, question: Normal) -> tuple[str, ...]:
        asked.append(question.text)
        return text.tokens + question.tokens

    found = [reference.beside(question, words) for question in (one, one, other)]

    assert found == [("left", "which", "side"), ("left", "which", "side"), ("left", "where")]
    assert asked == ["Which side?", "Where?"]
