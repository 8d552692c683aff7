"""The score cache: keys that miss where an answer could differ, and a memory with an end."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward.judging.judge import Inquiry, View
from medreward.judging.templates import load_templates
from medreward.score_cache import MemoryScoreCache, inquiry_key, text_key

TEMPLATES = load_templates()
BASE = Inquiry(TEMPLATES["equivalence"], answer="ab", reference="c", question="q", criterion="k")

DIFFERENT = [
    inquiry_key("judge", BASE),
    inquiry_key("another judge", BASE),
    inquiry_key("judge", Inquiry(TEMPLATES["rubric"], "ab", "c", "q", "k")),
    inquiry_key("judge", Inquiry(TEMPLATES["equivalence"], "a", "bc", "q", "k")),
    inquiry_key("judge", Inquiry(TEMPLATES["equivalence"], "c", "ab", "q", "k")),
    inquiry_key("judge", Inquiry(TEMPLATES["equivalence"], "ab", "c", "other", "k")),
    inquiry_key("judge", Inquiry(TEMPLATES["equivalence"], "ab", "c", None, "k")),
    inquiry_key("judge", Inquiry(TEMPLATES["equivalence"], "ab", "c", "q", None)),
    inquiry_key("judge", Inquiry(TEMPLATES["equivalence"], "ab", "c", "q", "k", View.SWAPPED)),
    text_key("judge", "ab"),
]


def test_whatever_can_change_an_answer_changes_the_key() -> None:
    """Engine, template, view and each text, with their borders, all tell keys apart."""
    assert len(set(DIFFERENT)) == len(DIFFERENT)


def test_a_question_that_is_not_shown_does_not_change_the_key() -> None:
    """Samples of other questions share a judgement where the judge sees no question."""
    keys = {
        inquiry_key("judge", Inquiry(TEMPLATES["match"], "ab", "c", question))
        for question in ("one", "another", None)
    }

    assert len(keys) == 1


@given(st.text(), st.text(), st.text(), st.text())
def test_keys_hold_no_text_and_do_not_collide(a: str, b: str, c: str, d: str) -> None:
    """A key is 64 hexadecimal digits, equal exactly where answer and reference are."""
    one, other = (
        inquiry_key("judge", Inquiry(TEMPLATES["match"], answer, reference))
        for answer, reference in ((a, b), (c, d))
    )

    assert (one == other) is ((a, b) == (c, d))
    assert len(one) == 64
    assert set(one) <= set("0123456789abcdef")


@pytest.mark.anyio
async def test_the_memory_forgets_what_was_not_used_for_longest() -> None:
    """It holds as many answers as it was told to, and a look counts as use."""
    cache = MemoryScoreCache[int](max_entries=3)
    for number, key in enumerate("abc"):
        await cache.put_many({key: number})

    await cache.get_many(["a"])
    await cache.put_many({"d": 3})

    assert await cache.get_many(list("abcd")) == {"a": 0, "c": 2, "d": 3}


def test_the_views_differ_in_pairs() -> None:
    """No two views of one inquiry share a key."""
    keys = [
        inquiry_key("judge", Inquiry(TEMPLATES["equivalence"], "ab", "c", "q", view=view))
        for view in View
    ]

    assert all(one != other for one, other in itertools.combinations(keys, 2))
