"""What stands in Redis: an entry's name, and its value with a proof that it is that entry's.

A name is `medreward:{tag}:v1:role:namespace:` and the key's 16 bytes. The tag is one of a few, so
that in Redis Cluster the many keys of a batch lie in few slots. There is no text in either.
"""

import binascii
import re
import zlib
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Literal, NamedTuple

Role = Literal["judge", "embedder"]

BUCKETS = 32
"""Slots that all entries share: at most so many commands for a batch, and still enough to spread
them over a few nodes."""
SLOTS = 16384
"""Of every Redis Cluster."""
TAG = slice(11, 14)
"""Where the tag stands in a name."""
NAME = re.compile(rb"medreward:\{\d{3}\}:v1:(?P<role>[a-z]+):(?P<namespace>[0-9a-f]*):")
NAMESPACE = re.compile(r"[0-9a-f]{0,64}")
VALUE = b"\x01"
LEASE = b"L"
CHECK_BYTES = 13


class Origin(NamedTuple):
    """Whose entry it is."""

    role: str
    namespace: str


def entry_names(keys: Sequence[bytes], role: Role, namespace: str) -> list[bytes]:
    """Name the entries of *keys*.

    Raises:
        ValueError: the namespace is not a short hexadecimal number, nor empty.
    """
    prefixes = _prefixes(role, namespace)
    return [prefixes[key[0] % BUCKETS] + key for key in keys]


def entry_pattern(namespace: str | None) -> bytes:
    """The pattern that Redis finds the names of a namespace by, or those of all."""
    if namespace is None:
        return b"medreward:{*}:v1:*"
    return b"medreward:{*}:v1:*:%b:*" % _checked(namespace)


def probe_names() -> list[bytes]:
    """Names that nothing stands under, one in each bucket, to see whether all of Redis answers."""
    return [b"medreward:{%b}:probe" % tag for tag in _tags()]


def origin_of(name: bytes) -> Origin | None:
    """Tell whose entry a name is that of, or None if it is none of ours."""
    found = NAME.match(name)
    return found and Origin(found["role"].decode("ascii"), found["namespace"].decode("ascii"))


def seal(key: bytes, payload: bytes) -> bytes:
    """Make a value that can be told from any other entry's, and from a damaged one."""
    return b"%b%b%b%b" % (VALUE, key[:8], zlib.crc32(payload).to_bytes(4), payload)


def unseal(key: bytes, value: object) -> bytes | None:
    """Take the payload out, or None where the value is not what was sealed under this key."""
    if not isinstance(value, bytes):
        return None
    payload = value[CHECK_BYTES:]
    if value[:CHECK_BYTES] != VALUE + key[:8] + zlib.crc32(payload).to_bytes(4):
        return None
    return payload


def is_lease(value: object) -> bool:
    """Whether somebody is asking for the value that will stand here."""
    return isinstance(value, bytes) and value[:1] == LEASE


@lru_cache(maxsize=1024)
def _prefixes(role: Role, namespace: str) -> tuple[bytes, ...]:
    ending = b"%b:%b:" % (role.encode("ascii"), _checked(namespace))
    return tuple(b"medreward:{%b}:v1:%b" % (tag, ending) for tag in _tags())


def _checked(namespace: str) -> bytes:
    # It becomes part of a pattern, where * would mean everybody's.
    if not NAMESPACE.fullmatch(namespace):
        raise ValueError("a namespace is a hexadecimal number of at most 64 small digits")
    return namespace.encode("ascii")


@cache
def _tags() -> tuple[bytes, ...]:
    """One tag for each equal part of the slots, so that nodes get equally many buckets."""
    numbers = [b"%03d" % number for number in range(1000)]
    parts = [_slot(number) * BUCKETS // SLOTS for number in numbers]
    return tuple(numbers[parts.index(part)] for part in range(BUCKETS))


def _slot(tag: bytes) -> int:
    # CRC16 as Redis Cluster's specification has it (XMODEM).
    return binascii.crc_hqx(tag, 0) % SLOTS
