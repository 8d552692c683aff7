"""The score cache: keys that miss where an answer could differ, and a memory with an end."""

import hashlib
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from medreward.cache.memory import ENTRY_OVERHEAD_BYTES, MemoryTier
from medreward.engines.judge import Inquiry, View
from medreward.engines.keys import inquiry_key, text_key
from medreward.engines.templates import load_templates

TEMPLATES = load_templates()
BASE = Inquiry(TEMPLATES["equivalence"], answer="ab", reference="c", question="q", criterion="k")

DIFFERENT = [
    inquiry_key("another judge", BASE),
    inquiry_key("judge", Inquiry(TEMPLATES["rubric"], "ab", "c", "q", "k")),
    inquiry_key("judge", Inquiry(TEMPLATES["equivalence"], "a", "bc", "q", "k")),
    inquiry_key("judge", Inquiry(TEMPLATES["equivalence"], "c", "ab", "q", "k")),
    inquiry_key("judge", Inquiry(TEMPLATES["equivalence"], "ab", "c", "other", "k")),
    inquiry_key("judge", Inquiry(TEMPLATES["equivalence"], "ab", "c", None, "k")),
    inquiry_key("judge", Inquiry(TEMPLATES["equivalence"], "ab", "c", "q", None)),
    *(inquiry_key("judge", BASE._replace(view=view)) for view in View),
    *(inquiry_key("judge", BASE._replace(second=second)) for second in ("", "ab", "b")),
    inquiry_key("judge", BASE._replace(answer="a", second="bb")),
    inquiry_key("judge", BASE, namespace="another team"),
    text_key("judge", "ab"),
    text_key("judge", "ab", namespace="another team"),
]


def test_whatever_can_change_an_answer_changes_the_key() -> None:
    """Engine, template, view and each text, with their borders; a question that is not shown cannot."""
    blind = [
        Inquiry(TEMPLATES["match"], "ab", "c", question) for question in ("one", "other", None)
    ]

    assert len(set(DIFFERENT)) == len(DIFFERENT)
    assert len({inquiry_key("judge", inquiry) for inquiry in blind}) == 1


@given(st.text(), st.text(), st.text(), st.text())
def test_keys_hold_no_text_and_do_not_collide(a: str, b: str, c: str, d: str) -> None:
    """A key is a digest of 16 bytes, equal exactly where answer and reference are."""
    one, other = (
        inquiry_key("judge", Inquiry(TEMPLATES["match"], answer, reference))
        for answer, reference in ((a, b), (c, d))
    )

    assert (one == other) is ((a, b) == (c, d))
    assert len(one) == 16


def test_the_memory_forgets_what_was_not_used_for_longest() -> None:
    """It holds as many bytes as it was told to, and a look counts as use."""
    memory = MemoryTier(3 * (ENTRY_OVERHEAD_BYTES + 1))
    for key in (b"a", b"b", b"c"):
        memory.put_many({key: key})

    memory.get_many([b"a"])
    memory.put_many({b"d": b"d"})

    assert memory.get_many([b"a", b"b", b"c", b"d"]) == {b"a": b"a", b"c": b"c", b"d": b"d"}


@given(
    st.lists(st.dictionaries(st.binary(max_size=2), st.binary(max_size=300), max_size=4)),
    st.integers(0, 4000),
)
def test_the_memory_keeps_within_its_bytes(puts: list[dict[bytes, bytes]], limit: int) -> None:
    """Whatever is put, its count of bytes is exact, and never over the limit."""
    memory = MemoryTier(limit)

    for values in puts:
        memory.put_many(values)

    kept = memory.get_many({key for values in puts for key in values})
    assert memory.size_bytes == sum(len(v) + ENTRY_OVERHEAD_BYTES for v in kept.values()) <= limit
    assert len(memory) == len(kept)


def test_an_entry_takes_about_as_many_bytes_as_it_is_counted_for() -> None:
    """The limit is one of memory, so what an entry takes beside its value is counted in."""
    tracemalloc.start()
    memory = MemoryTier(2**30)
    for number in range(20_000):
        memory.put_many({hashlib.sha256(bytes(number)).digest()[:16]: number.to_bytes(12, "big")})
    taken_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert 0.8 < taken_bytes / memory.size_bytes < 1.2
