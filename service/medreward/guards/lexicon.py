"""Lexicons: one versioned TOML table of words or patterns for each guard, read once."""

import re
import tomllib
from functools import lru_cache
from importlib import resources
from typing import Any


@lru_cache(maxsize=32)
def lexicon(name: str) -> dict[str, Any]:
    """Load the lexicon of that *name*."""
    path = resources.files("medreward.guards").joinpath("lexicons", f"{name}.toml")
    return tomllib.loads(path.read_text("utf-8"))


@lru_cache(maxsize=64)
def words_of(name: str, *keys: str) -> frozenset[str]:
    """Return the words of a lexicon's lists *keys*, or of all; white space separates words."""
    table = lexicon(name)
    keys = keys or tuple(key for key in table if key != "version")
    return frozenset(word for key in keys for line in table[key] for word in line.split())


@lru_cache(maxsize=64)
def pattern_of(name: str, *keys: str) -> re.Pattern[str]:
    """Compile the patterns of a lexicon's lists *keys* into one; they match folded text."""
    table = lexicon(name)
    return re.compile(
        "|".join(f"(?:{entry})" for key in keys for entry in table[key]), re.MULTILINE
    )
