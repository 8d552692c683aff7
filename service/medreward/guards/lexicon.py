"""Lexicons: one versioned TOML table of words or patterns for each guard, read once."""

import re
import tomllib
from functools import lru_cache
from importlib import resources
from itertools import groupby
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
    entries = [entry for key in keys for entry in lexicon(name)[key]]
    # Of a run of entries that begin at a word's edge, none is tried elsewhere: `re` tests once what
    # all of a group begin with.
    runs = groupby(entries, key=lambda entry: entry.startswith(r"\b"))
    groups = ["|".join(f"(?:{entry})" for entry in run) for _, run in runs]
    return re.compile("|".join(f"(?:{group})" for group in groups), re.MULTILINE)
