"""Stage 4: what was asked before is not asked again.

A cache is a promise that asking again would give the same, so a key holds everything that can
change the answer, and only answers are stored, never failures. Keys are digests: no text. Tiers
deal in bytes: they cost a garbage collector nothing, and are the same in this process and in Redis.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from threading import Lock

ENTRY_OVERHEAD_BYTES = 192
"""What an entry takes beside its value: key, object headers, its place in the order (measured)."""


class MemoryTier:
    """Remembers the values used last, in this process, within a number of bytes. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._values: OrderedDict[bytes, bytes] = OrderedDict()
        self._lock = Lock()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._values)

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Give what is remembered, and count it as used; a key that is not is left out."""
        found = {}
        with self._lock:
            for key in keys:
                value = self._values.get(key)
                if value is not None:
                    self._values.move_to_end(key)
                    found[key] = value
        return found

    def put_many(self, values: Mapping[bytes, bytes]) -> None:
        """Remember *values*, dropping those not used for longest."""
        with self._lock:
            self._put_many(values)

    def _put_many(self, values: Mapping[bytes, bytes]) -> None:
        for key, value in values.items():
            known = self._values.pop(key, None)
            if known is not None:
                self.size_bytes -= len(known) + ENTRY_OVERHEAD_BYTES
            self._values[key] = value
            self.size_bytes += len(value) + ENTRY_OVERHEAD_BYTES
        while self.size_bytes > self._max_bytes:
            _, dropped = self._values.popitem(last=False)
            self.size_bytes -= len(dropped) + ENTRY_OVERHEAD_BYTES
