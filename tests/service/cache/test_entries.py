"""Names and values in Redis: told apart from anybody else's, and free of text."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from medreward.cache.entries import (
    BUCKETS,
    LEASE,
    TAG,
    Origin,
    decode,
    encode,
    entry_names,
    entry_pattern,
    is_lease,
    key_of,
    origin_of,
    probe_names,
)

slot_of: Callable[[bytes], int] = key_slot
keys = st.binary(min_size=16, max_size=16)
payloads = st.binary(max_size=64)


@given(key=keys, other=keys, payload=payloads)
def test_only_its_own_key_opens_a_value(key: bytes, other: bytes, payload: bytes) -> None:
    """A reply that was meant for another question gives no answer to this one."""
    assert decode(key, encode(key, payload)) == payload
    if key[:8] != other[:8]:
        assert decode(other, encode(key, payload)) is None


@given(key=keys, payload=payloads, data=st.data())
def test_a_damaged_value_is_none(key: bytes, payload: bytes, data: st.DataObject) -> None:
    """One bit changed anywhere, or cut anywhere, and it is no value."""
    sealed = encode(key, payload)
    place = data.draw(st.integers(0, len(sealed) - 1))
    damaged = bytearray(sealed)
    damaged[place] ^= 1 << data.draw(st.integers(0, 7))

    assert decode(key, bytes(damaged)) is None
    assert decode(key, sealed[:place]) is None


@given(key=keys, value=st.binary() | st.none() | st.integers() | st.text() | st.just([b"x"]))
def test_rubbish_is_none(key: bytes, value: object) -> None:
    """Whatever a server answers, nothing is raised."""
    assert decode(key, value) is None


@given(key=keys)
def test_a_lease_is_no_value(key: bytes) -> None:
    """It stands where the value will stand, and is told from it."""
    lease = LEASE + b"12345678" + b"0"

    assert decode(key, lease) is None
    assert is_lease(lease)
    assert not is_lease(encode(key, lease))


@given(key=keys, namespace=st.text("0123456789abcdef", max_size=64))
def test_a_name_tells_whose_entry_it_is(key: bytes, namespace: str) -> None:
    """Role and namespace can be read off it, whatever bytes the key has; others' names are nobody's."""
    [name] = entry_names([key], "judge", namespace)

    assert {origin_of(other) for other in (b"", b"medreward:x", b"medreward:{021}:probe")} == {None}
    assert origin_of(name) == Origin("judge", namespace)
    assert name.endswith(b":" + key)
    assert key_of(name) == key


@pytest.mark.parametrize("namespace", ["*", "a:b", "[a]", "G", "A", "a" * 65, " ", "é"])
def test_a_namespace_that_is_no_hexadecimal_number_is_refused(namespace: str) -> None:
    """It becomes part of a pattern, in which a star would mean everybody's."""
    with pytest.raises(ValueError, match="hexadecimal"):
        entry_names([b"k" * 16], "judge", namespace)
    with pytest.raises(ValueError, match="hexadecimal"):
        entry_pattern(namespace)


def test_roles_and_namespaces_do_not_meet() -> None:
    """The same key under each is another entry."""
    asked = [("judge", ""), ("embedder", ""), ("judge", "a"), ("judge", "ab")]

    assert len({entry_names([b"k" * 16], role, ns)[0] for role, ns in asked}) == 4  # type: ignore[arg-type]


def test_the_keys_of_a_bucket_lie_in_one_slot_and_the_buckets_are_spread_evenly() -> None:
    """So that a batch needs few commands, and nodes with equal parts get equally many buckets."""
    names = entry_names([bytes([first]) + b"k" * 15 for first in range(256)], "judge", "")
    slots = {slot_of(name) for name in names}

    assert len(slots) == len({name[TAG] for name in names}) == BUCKETS
    assert sorted(slot * BUCKETS // 16384 for slot in slots) == list(range(BUCKETS))
    assert {slot_of(name) for name in probe_names()} == slots


def test_the_pattern_of_all_is_that_of_every_name() -> None:
    """With and without a namespace."""
    pattern = entry_pattern(None).decode().replace("*", ".*").replace("{", r"\{")

    for namespace in ("", "abc"):
        [name] = entry_names([b"k" * 16], "embedder", namespace)
        assert re.fullmatch(pattern, name.decode())
