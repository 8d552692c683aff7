"""The special tokens of the usual families of language models, from `special_tokens.toml`."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Strings that the tokenizer of some family reads as one special token, and never as text."""

    version: int
    brackets: tuple[str, ...]
    """Strings at either end of most of them, without another use in medical text."""
    prefixes: tuple[str, ...]
    """Beginnings of those that end in a number."""
    families: Mapping[str, tuple[str, ...]]

    @property
    def general(self) -> tuple[str, ...]:
        """Brackets and prefixes: most tokens contain one of these."""
        return (*self.brackets, *self.prefixes)

    @property
    def all(self) -> frozenset[str]:
        """Every token of every family."""
        return frozenset(token for tokens in self.families.values() for token in tokens)


@cache
def load_special_tokens() -> SpecialTokens:
    """Read the file that comes with this package, once."""
    file = resources.files("medreward.engines.prompts") / "special_tokens.toml"
    table = tomllib.loads(file.read_text("utf-8"))
    return SpecialTokens(
        version=table["version"],
        brackets=tuple(table["brackets"]),
        prefixes=tuple(table["prefixes"]),
        families={name: tuple(tokens) for name, tokens in table["families"].items()},
    )
