"""The memory tier of the cache of answers: bytes by key, least recently used first to go.

A cached answer replaces a request to the engine, so its key covers everything that can change the
answer, and problems are not stored. Keys are digests without text. Values are bytes, the same as in
Redis, which the garbage collector does not have to scan.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from threading import Lock

ENTRY_OVERHEAD_BYTES = 192
"""Memory of an entry in addition to its value: key, object headers, place in the order (measured)."""


class MemoryTier:
    """An LRU cache of this process, bounded in bytes. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._values: OrderedDict[bytes, bytes] = OrderedDict()
        self._lock = Lock()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._values)

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return the cached values, and mark them as used; keys without a value are left out."""
        found = {}
        with self._lock:
            for key in keys:
                value = self._values.get(key)
                if value is not None:
                    self._values.move_to_end(key)
                    found[key] = value
        return found

    def put_many(self, values: Mapping[bytes, bytes]) -> None:
        """Store values, and evict the least recently used ones beyond the limit."""
        with self._lock:
            for key, value in values.items():
                known = self._values.pop(key, None)
                if known is not None:
                    self.size_bytes -= len(known) + ENTRY_OVERHEAD_BYTES
                self._values[key] = value
                self.size_bytes += len(value) + ENTRY_OVERHEAD_BYTES
            while self.size_bytes > self._max_bytes:
                _, dropped = self._values.popitem(last=False)
                self.size_bytes -= len(dropped) + ENTRY_OVERHEAD_BYTES
