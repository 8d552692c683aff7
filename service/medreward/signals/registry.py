"""The kinds of signals by name: those that are shipped, and the operator's own."""

import hashlib
import importlib
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from pydantic import BaseModel

from medreward.errors import SetupError
from medreward.signals import (
    accept,
    findings_diagnosis,
    keyword_chain,
    language,
    leaky_hint,
    style_checks,
    tool_trace,
)
from medreward.signals.kind import Need, SignalKind

SIGNAL_KINDS: Mapping[str, SignalKind] = MappingProxyType(
    {
        "accept": accept.KIND,
        "findings_diagnosis": findings_diagnosis.KIND,
        "keyword_chain": keyword_chain.KIND,
        "language": language.KIND,
        "leaky_hint": leaky_hint.KIND,
        "style_checks": style_checks.KIND,
        "tool_trace": tool_trace.KIND,
    }
)
"""Each is a module of this folder, and a line here."""

NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
NEEDS: Mapping[str, tuple[Need, ...]] = MappingProxyType(
    {
        "accuracy_llm": ("judge", "reference"),
        "accuracy_embed": ("embedder", "reference"),
        "modality": ("tags",),
        "format": ("tags",),
        "rubric": ("judge", "criteria"),
        "group_rank": ("judge", "groups"),
    }
)
"""What the signals need that are no kind, since they need an engine or the response's markup."""

OF_KINDS: frozenset[Need] = frozenset({"reference", "tags"})
"""What a kind may need beside the keys of `extra`: a value is computed from the texts of one sample."""


class KnownKind(NamedTuple):
    """A kind that recipes may name."""

    kind: SignalKind
    path: str | None = None
    """Import path of an operator's own kind, whose values a process of its own computes."""
    digest: str = ""
    """SHA-256 of the source of such a kind; a shipped one has its version."""

    @property
    def identity(self) -> list[str | int]:
        """Everything in the kind that can change a value, for fingerprints."""
        return [self.kind.version, self.digest]

    @property
    def needs(self) -> tuple[str, ...]:
        """What the kind needs, with the keys of `extra` that have no default."""
        fields = self.kind.inputs.model_fields.items()
        keys = [field.alias or name for name, field in fields if field.is_required()]
        return (*self.kind.needs, *(f"extra.{key}" for key in keys))


Kinds = Mapping[str, KnownKind]

SHIPPED: Kinds = MappingProxyType({name: KnownKind(kind) for name, kind in SIGNAL_KINDS.items()})


def load_kinds(entries: Iterable[str] = ()) -> Kinds:
    """Return the shipped kinds, and those of *entries* such as `brevity=my_signals:BREVITY`.

    The module is imported here for the kind's tables and range; its values are computed elsewhere.

    Raises:
        SetupError: an entry is not of that form, its name is taken, or it cannot be imported.
    """
    kinds = dict(SHIPPED)
    for entry in entries:
        name, _, path = (part.strip() for part in entry.partition("="))
        where = f"MEDREWARD_SIGNALS: {entry}"
        if not NAME.fullmatch(name) or path.count(":") != 1:
            raise SetupError(f"{where}: write name=package.module:KIND, the name in small letters")
        if name in NEEDS or name in kinds:
            raise SetupError(f"{where}: the name {name!r} is taken; choose another")
        try:
            kinds[name] = KnownKind(import_kind(path), path, _digest(path))
        except Exception as exc:
            # A module of the operator's may raise anything while it is imported.
            raise SetupError(f"{where}: {type(exc).__name__}: {exc}") from exc
    return kinds


def import_kind(path: str) -> SignalKind:
    """Import the kind at `package.module:NAME`.

    Raises:
        TypeError: what stands there is no `SignalKind`, its options have a key `weight`, or its needs are
            not those of a kind.
    """
    module, _, name = path.partition(":")
    kind = getattr(importlib.import_module(module), name)
    if not isinstance(kind, SignalKind):
        raise TypeError(f"{name} is no SignalKind")
    if "weight" in kind.options.model_fields:
        raise TypeError(f"{name}: its options cannot have the key `weight`, which every signal has")
    if not OF_KINDS.issuperset(kind.needs):
        raise TypeError(f"{name}: its `needs` are a tuple of some of {', '.join(sorted(OF_KINDS))}")
    return kind


def _digest(path: str) -> str:
    """Digest the source of the module that has the kind."""
    source = importlib.import_module(path.partition(":")[0]).__file__
    if source is None:
        raise TypeError("a package without __init__.py has no source")
    return hashlib.sha256(Path(source).read_bytes()).hexdigest()


def range_of(name: str, kind: SignalKind, options: BaseModel) -> tuple[float, float]:
    """Return the range of a kind under a recipe's options.

    Raises:
        ValueError: it is not finite, or its ends are exchanged.
    """
    try:
        low, high = kind.range(options)
    except Exception as exc:
        # That of an operator's own kind may raise anything.
        raise ValueError(f"the range of the signal {name}: {type(exc).__name__}: {exc}") from exc
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"the signal {name} has no range from a least to a greatest value")
    return low, high
