"""What a body will take in memory is known before anything is built of it."""

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward.errors import TooLarge
from medreward.http.bodies import PART_BYTES, TEXT_COPIES, Weight, parse
from medreward.http.schemas import RewardRequest

VALUES = st.recursive(
    st.none() | st.integers() | st.text('ab,:"\\\\[{\n\u00e9\u2013\U0001f600'),
    lambda part: st.lists(part) | st.dictionaries(st.text('a,:"\\\\{'), part),
)


def weighed(body: bytes, *cuts: int) -> int:
    """What a body weighs that arrives in pieces."""
    weight = Weight()
    ends = sorted(cut % (len(body) + 1) for cut in cuts)
    for start, end in zip([0, *ends], [*ends, len(body)], strict=True):
        weight.add(body[start:end])
    return weight.total_bytes


def parts_bytes(value: object) -> int:
    """What the parts of a value weigh, apart from its characters."""
    match value:
        case str():
            return 2 * PART_BYTES[b'"']
        case list():
            within = sum(map(parts_bytes, value)) + PART_BYTES[b","] * max(0, len(value) - 1)
            return PART_BYTES[b"["] + within
        case dict():
            keys = len(value) * (2 * PART_BYTES[b'"'] + PART_BYTES[b":"])
            within = sum(map(parts_bytes, value.values()))
            return PART_BYTES[b"{"] + within + keys + PART_BYTES[b","] * max(0, len(value) - 1)
        case _:
            return 0


@given(value=VALUES, cuts=st.lists(st.integers(min_value=0), max_size=5), is_ascii=st.booleans())
def test_parts_are_counted_outside_of_texts_alone(
    value: object, cuts: list[int], *, is_ascii: bool
) -> None:
    """Commas, quotes and brackets in a text are no parts, however they are escaped and cut."""
    text = json.dumps(value, ensure_ascii=is_ascii)
    body = text.encode()
    size = len(body)
    parts = weighed(body, *cuts) - size - parts_bytes(value)
    # What is left are the characters, by the width of the widest.
    assert parts % TEXT_COPIES == 0
    assert 0 < parts <= TEXT_COPIES * 4 * size


@pytest.mark.parametrize("sign", ["a", "\u00b5", "\u2013", "\u80ba", "\U0001f600"])
@pytest.mark.parametrize("is_ascii", [True, False])
def test_a_text_weighs_what_its_copies_take(sign: str, *, is_ascii: bool) -> None:
    """One wide character makes all others wide, whether it is written or escaped."""
    text = "a word " * 1000 + sign
    body = json.dumps(text, ensure_ascii=is_ascii).encode()
    least = len(body) + TEXT_COPIES * sys.getsizeof(text)
    assert 0.95 * least < weighed(body) < 1.1 * least


def test_samples_are_counted_before_models_are_made_of_them() -> None:
    """Neither of these is a sample, but their number is told first."""
    body = bytearray(json.dumps({"samples": [1, 2, 3]}).encode())
    with pytest.raises(TooLarge, match="samples: 3 of them; send at most 2 at once") as refusal:
        parse(RewardRequest, body, max_samples=2)
    assert refusal.value.fits == 2


def test_many_mistakes_are_counted_only() -> None:
    """A hundred thousand unknown fields are no hundred thousand explanations."""
    fields = {f"f{number}": 1 for number in range(100_001)}
    body = bytearray(json.dumps({"samples": [], **fields}).encode())
    with pytest.raises(Exception, match="the body: 100001 mistakes, such as unknown fields"):
        parse(RewardRequest, body, max_samples=2)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (r"\ud83d", "\ufffd"),
        (r"\udc00 \ud83d\ude00 \ud83d", "\ufffd \U0001f600 \ufffd"),
        (r"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        (r"\\ud83d \ud83d", "\\ud83d \ufffd"),
        (r"\\\ud83d\n", "\\\ufffd\n"),
    ],
)
def test_a_lone_surrogate_is_replaced_and_nothing_else(written: str, read: str) -> None:
    """An escaped backslash before it begins no escape, and whole characters stay."""
    sample = f'{{"response": "{written}", "reference": "a", "extra": {{"n": NaN}}}}'
    found = parse(RewardRequest, bytearray(f'{{"samples": [{sample}]}}'.encode()), max_samples=1)
    assert found.samples[0].response == read
