"""A text folded for detection, and where its words stand in the text as it came."""

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward.guards.normal import Normal, is_same, normal, stem

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


def test_plain_text_has_no_accents() -> None:
    """An accent that a typist left out is found all the same."""
    assert Normal("Ménière").plain == "meniere"


@pytest.mark.parametrize(("text", "size"), [("left lung", 2), ("左下叶肺炎", 3), ("", 0)])
def test_scripts_without_spaces_have_a_size_too(text: str, size: int) -> None:
    """Two signs of Chinese count as a word."""
    assert Normal(text).size == size
