"""Judge templates: instructions and labels in files, each with a version and a hash."""

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Literal


@dataclass(frozen=True, slots=True)
class Template:
    """One instruction with its labels; its hash is part of every cache key and fingerprint."""

    name: str = field(compare=False)
    version: int = field(compare=False)
    kind: Literal["verdict", "grade"] = field(compare=False)
    labels: tuple[str, ...] = field(compare=False)
    shows_question: bool = field(compare=False)
    instruction: str = field(compare=False)
    opening: str = field(compare=False)
    """The beginning of the judge's turn, after which the label is the very next token."""
    sha: str = field(init=False, repr=False)
    """SHA-256 of the other fields. It alone is compared and hashed, since inquiries are by the thousand."""

    def __post_init__(self) -> None:
        content = {**{name: getattr(self, name) for name in _CONTENT}, "labels": list(self.labels)}
        digest = hashlib.sha256(repr(sorted(content.items())).encode()).hexdigest()
        object.__setattr__(self, "sha", digest)

    def shown(self, question: str | None) -> str | None:
        """Return a question as far as the prompt shows it: None if the template shows none."""
        return question if self.shows_question else None


_CONTENT = ("name", "version", "kind", "shows_question", "instruction", "opening")


def load_templates() -> Mapping[str, Template]:
    """Load the templates shipped in `prompts/`, by name."""
    folder = resources.files("medreward.engines.prompts") / "templates"
    templates = {}
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        name, _, suffix = entry.name.rpartition(".")
        if suffix == "toml":
            table = tomllib.loads(entry.read_text("utf-8"))
            table["labels"] = tuple(table["labels"])
            table["instruction"] = table["instruction"].strip()
            templates[name] = Template(name=name, **table)
    return templates
