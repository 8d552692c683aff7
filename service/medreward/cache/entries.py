"""The format of an entry in Redis: its name, and its value with a check that it belongs to the name.

A name is `medreward:{tag}:v1:role:namespace:` and the key's 16 bytes. There are only 32 tags, so in
Redis Cluster the keys of a batch lie in few slots. Names and values contain no text of a sample.
"""

import binascii
import re
import zlib
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Literal, NamedTuple

Role = Literal["judge", "embedder"]

BUCKETS = 32
"""Tags, and thereby slots, of all entries: a batch takes at most so many commands in a cluster, and
the entries still spread over its nodes."""
SLOTS = 16384
"""Hash slots of every Redis Cluster."""
TAG = slice(11, 14)
"""The place of the tag in a name."""
NAME = re.compile(rb"medreward:\{\d{3}\}:v1:(?P<role>[a-z]+):(?P<namespace>[0-9a-f]*):")
NAMESPACE = re.compile(r"[0-9a-f]{0,64}")
VALUE = b"\x01"
LEASE = b"L"
CHECK_BYTES = 13


class Origin(NamedTuple):
    """The role and the namespace of an entry."""

    role: str
    namespace: str


def entry_names(keys: Sequence[bytes], role: Role, namespace: str) -> list[bytes]:
    """Return the names of the entries of *keys*, in order.

    Raises:
        ValueError: the namespace is not a short hexadecimal number, nor empty.
    """
    prefixes = _prefixes(role, namespace)
    return [prefixes[key[0] % BUCKETS] + key for key in keys]


def key_of(name: bytes) -> bytes:
    """Return the key at the end of an entry's name."""
    # Five colons stand before it, and a key may contain more of them.
    return name.split(b":", 5)[-1]


def entry_pattern(namespace: str | None) -> bytes:
    """Return the pattern by which Redis finds the names of a namespace, or those of all."""
    if namespace is None:
        return b"medreward:{*}:v1:*"
    return b"medreward:{*}:v1:*:%b:*" % _checked(namespace)


def probe_names() -> list[bytes]:
    """Return unused names, one in each bucket: reading them shows whether all of Redis answers."""
    return [b"medreward:{%b}:probe" % tag for tag in _tags()]


def origin_of(name: bytes) -> Origin | None:
    """Return role and namespace of an entry's name; None if the name has another format."""
    found = NAME.match(name)
    return found and Origin(found["role"].decode("ascii"), found["namespace"].decode("ascii"))


def encode(key: bytes, payload: bytes) -> bytes:
    """Return the value of an entry: a marker, half of the key, a CRC of the payload, the payload."""
    # Half of the key detects a reply that belongs to another request; the CRC detects corruption.
    return b"%b%b%b%b" % (VALUE, key[:8], zlib.crc32(payload).to_bytes(4), payload)


def decode(key: bytes, value: object) -> bytes | None:
    """Return the payload of an entry; None if the value was not encoded for this key."""
    if not isinstance(value, bytes):
        return None
    payload = value[CHECK_BYTES:]
    if value[:CHECK_BYTES] != VALUE + key[:8] + zlib.crc32(payload).to_bytes(4):
        return None
    return payload


def is_lease(value: object) -> bool:
    """Return whether the value marks a question that a replica is asking."""
    return isinstance(value, bytes) and value[:1] == LEASE


@lru_cache(maxsize=1024)
def _prefixes(role: Role, namespace: str) -> tuple[bytes, ...]:
    ending = b"%b:%b:" % (role.encode("ascii"), _checked(namespace))
    return tuple(b"medreward:{%b}:v1:%b" % (tag, ending) for tag in _tags())


def _checked(namespace: str) -> bytes:
    # The namespace becomes part of a pattern, in which * would match all namespaces' entries.
    if not NAMESPACE.fullmatch(namespace):
        raise ValueError("a namespace is a hexadecimal number of at most 64 small digits")
    return namespace.encode("ascii")


@cache
def _tags() -> tuple[bytes, ...]:
    """Return a tag for each equal part of the slots, so that nodes get equally many buckets."""
    numbers = [b"%03d" % number for number in range(1000)]
    parts = [_slot(number) * BUCKETS // SLOTS for number in numbers]
    return tuple(numbers[parts.index(part)] for part in range(BUCKETS))


def _slot(tag: bytes) -> int:
    # CRC16 (XMODEM), by the specification of Redis Cluster.
    return binascii.crc_hqx(tag, 0) % SLOTS
