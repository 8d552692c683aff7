"""Guards by name, and the order in which they check an answer."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import resources
from typing import Literal, NamedTuple

from medreward.guards.contrast import contrast
from medreward.guards.copying import copying
from medreward.guards.decoration import core, undecorated
from medreward.guards.hedge import hedge
from medreward.guards.injection import injection
from medreward.guards.length import length
from medreward.guards.pair import Guard, Pair, Span, Veto
from medreward.guards.quantities import quantities
from medreward.guards.structure import structure
from medreward.guards.symbolic import settle
from medreward.guards.vacuity import vacuity

GuardName = Literal[
    "structure",
    "injection",
    "vacuity",
    "length",
    "copying",
    "hedge",
    "contrast",
    "quantities",
]

GUARDS: Mapping[GuardName, Guard] = {
    "structure": structure,
    "injection": injection,
    "vacuity": vacuity,
    "length": length,
    "copying": copying,
    "hedge": hedge,
    "contrast": contrast,
    "quantities": quantities,
}
BEFORE_SETTLING: frozenset[GuardName] = frozenset({"structure", "injection"})
"""Guards against text meant for the judge: they run before any answer can be settled as right."""

GUARDS_VERSION = 2
"""Increased when a guard's decisions change with the same lexicons."""


class Decision(NamedTuple):
    """A decision about an answer and one reference, made without a model."""

    says_yes: bool
    veto: Veto | None = None
    """Finding behind a NO."""


class GuardChain:
    """The guards of one recipe."""

    def __init__(self, checks: Sequence[GuardName], *, settles: bool) -> None:
        self._first = tuple(GUARDS[name] for name in checks if name in BEFORE_SETTLING)
        self._then = tuple(GUARDS[name] for name in checks if name not in BEFORE_SETTLING)
        self._settles = settles

    def decide(self, pair: Pair) -> Decision | None:
        """Decide a pair without a model; None leaves it to the models.

        The guards against text meant for the judge read the whole answer; the rest read it without
        its decoration. An answer that is plainly the reference is right whatever its form, so such
        pairs are settled before the other guards run.
        """
        if veto := _first_veto(self._first, pair):
            return Decision(says_yes=False, veto=veto)
        bare = pair._replace(answer=undecorated(pair.answer))
        # An entity may stand for a sign that these guards look for.
        if bare.answer is not pair.answer and "&" in pair.answer.text:
            veto = _first_veto(self._first, bare)
        settled = settle(pair) if self._settles and veto is None else None
        if settled is not None and settled.says_yes:
            return Decision(says_yes=True)
        if settled is not None:
            whole = Span(0, len(pair.answer.text))
            return Decision(False, Veto(settled.rule, whole, settled.reference_span))
        veto = veto or _first_veto(self._then, bare)
        if veto is None:
            return None
        return Decision(False, veto._replace(span=core(pair.answer).span(veto.span)))


def _first_veto(guards: Sequence[Guard], pair: Pair) -> Veto | None:
    for guard in guards:
        if (veto := guard(pair)) is not None:
            return veto
    return None


@lru_cache(maxsize=1)
def guards_identity() -> str:
    """Return a digest of the guards' version and lexicons."""
    digest = hashlib.sha256(str(GUARDS_VERSION).encode())
    folder = resources.files("medreward.guards") / "lexicons"
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".toml"):
            digest.update(entry.name.encode() + entry.read_bytes())
    return digest.hexdigest()
