"""Names of our keys and values in verl and EasyR1, and advice for keys with no counterpart here.

The table is key_aliases.toml.
"""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, NamedTuple


class Names(NamedTuple):
    """The names of one key in the two other trainers; None if a trainer has no such key."""

    verl: str | None
    """In verl 0.9.1; preceded by a plus if verl reads the key but its configuration lacks it."""
    easyr1: str | None


class KeyAliases(NamedTuple):
    """The whole table; names and values by our keys, advice by keys of verl and EasyR1."""

    names: Mapping[str, Names]
    instead: Mapping[str, str]
    """Advice by a key, or by the sections that a key lies in."""
    values: Mapping[str, Mapping[str, str]]
    """By our key: our value by the value of verl or EasyR1."""

    def ours(self, key: str) -> list[str]:
        """Return our keys for a key of EasyR1, or for a key of verl that differs from ours."""
        return [
            ours
            for ours, names in self.names.items()
            if key != ours and key in {names.easyr1, (names.verl or "").removeprefix("+")}
        ]

    def advice(self, key: str) -> str | None:
        """Return what to do about a key without counterpart, by its longest known prefix."""
        parts = key.split(".")
        prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
        return next((self.instead[one] for one in prefixes if one in self.instead), None)


@cache
def key_aliases() -> KeyAliases:
    """Read the table."""
    file = resources.files("medreward_trainer.config") / "key_aliases.toml"
    table = tomllib.loads(file.read_text("utf-8"))
    return KeyAliases(
        names={
            key: Names(*(name.replace("=", key) or None for name in pair))
            for key, pair in flat(table["names"]).items()
        },
        instead=flat(table["instead"]),
        values=table["values"],
    )


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return every value of a nested mapping by its key with dots."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
