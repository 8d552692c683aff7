"""Memory of objects."""

import sys


def memory_of(found: object, seen: set[int]) -> int:
    """Bytes of an object and of everything that it alone refers to."""
    if id(found) in seen or isinstance(found, type) or callable(found):
        return 0
    seen.add(id(found))
    parts: list[object] = []
    if isinstance(found, dict):
        parts = [*found.keys(), *found.values()]
    elif isinstance(found, tuple | list | frozenset | set):
        parts = list(found)
    if hasattr(found, "__dict__"):
        parts.append(vars(found))
    parts += [getattr(found, name) for name in getattr(found, "__slots__", ())]
    return sys.getsizeof(found) + sum(memory_of(part, seen) for part in parts)
