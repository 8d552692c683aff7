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
from medreward.guards.injection import injection, orders
from medreward.guards.length import length
from medreward.guards.pair import Guard, Pair, Veto
from medreward.guards.quantities import quantities
from medreward.guards.settling import settle
from medreward.guards.structure import structure
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

WITHOUT_REFERENCE: Mapping[GuardName, Guard] = {"injection": orders}
"""Guards in front of criteria, where nothing else can tell praise of a dermatologist from advice.

Left out: `structure`, as in front of `/judge`, since a table or a heading `Instructions:` is no fault
of advice, and the judge's prompt fences it off.
"""

LEXICONS_WITHOUT_REFERENCE = ("orders.toml",)
"""Lexicons of these guards alone, so that other recipes keep their fingerprint when one changes."""

GUARDS_VERSION = 2
"""Increased when a guard's decisions change with the same lexicons."""

GRADING_CHECKS: tuple[GuardName, ...] = (
    "injection",
    "vacuity",
    "hedge",
    "contrast",
    "quantities",
)
"""Guards of `/judge`, which grades whole responses of models that were not trained against it.

Left out: `structure`, since tags and code fences are no fault of what is said, and the judge's prompt
fences them off; `length`, since an evaluation grades long answers too; `copying`, since an answer may
discuss every option before it chooses one.
"""

REPORT_CHECKS: tuple[GuardName, ...] = ("injection",)


class Decision(NamedTuple):
    """A decision about an answer and one reference, made without a model."""

    says_yes: bool
    rule: str
    """Name of the rule that settled it, or of the veto's finding."""
    veto: Veto | None = None
    """Finding behind a NO."""


class GuardChain:
    """The guards of one recipe, or of `/judge`."""

    def __init__(
        self,
        checks: Sequence[GuardName],
        *,
        settles: bool,
        guards: Mapping[GuardName, Guard] = GUARDS,
    ) -> None:
        self._first = tuple(guards[name] for name in checks if name in BEFORE_SETTLING)
        self._then = tuple(guards[name] for name in checks if name not in BEFORE_SETTLING)
        self._settles = settles

    def decide(self, pair: Pair) -> Decision | None:
        """Decide a pair without a model; None leaves it to the models.

        The guards against text meant for the judge read the whole answer; the rest read it without
        its decoration. An answer that is plainly the reference is right whatever its form, so such
        pairs are settled before the other guards run.
        """
        if veto := _first_veto(self._first, pair):
            return _vetoed(veto)
        bare = Pair(undecorated(pair.answer), pair.reference, pair.question)
        # An entity may stand for a sign that these guards look for.
        if bare.answer is not pair.answer and "&" in pair.answer.text:
            veto = _first_veto(self._first, bare)
        settled = settle(pair) if self._settles and veto is None else None
        if settled is not None and settled.says_yes:
            return Decision(says_yes=True, rule=settled.rule)
        if settled is not None:
            return _vetoed(Veto(settled.rule, settled.span, settled.reference_span))
        veto = veto or _first_veto(self._then, bare)
        if veto is None:
            return None
        return _vetoed(veto._replace(span=core(pair.answer).span(veto.span)))


GRADING = {
    "equivalence": GuardChain(GRADING_CHECKS, settles=True),
    # A report has no rule by which it is right, and what contradicts the reference only lowers its
    # grade. An order to the judge is no part of any report.
    "report": GuardChain(REPORT_CHECKS, settles=False),
}
"""Rules and guards in front of the judge of `/judge`, by template."""


def _vetoed(veto: Veto) -> Decision:
    return Decision(says_yes=False, rule=veto.rule, veto=veto)


def _first_veto(guards: Sequence[Guard], pair: Pair) -> Veto | None:
    for guard in guards:
        if (veto := guard(pair)) is not None:
            return veto
    return None


@lru_cache(maxsize=1)
def guards_identity() -> str:
    """Return a digest of the guards' version and lexicons, but for those without a reference alone."""
    digest = hashlib.sha256(str(GUARDS_VERSION).encode())
    folder = resources.files("medreward.guards") / "lexicons"
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".toml") and entry.name not in LEXICONS_WITHOUT_REFERENCE:
            digest.update(entry.name.encode() + entry.read_bytes())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def identity_without_reference() -> str:
    """Return a digest of what the guards in front of criteria and pairs have of their own."""
    digest = hashlib.sha256(" ".join(WITHOUT_REFERENCE).encode())
    folder = resources.files("medreward.guards") / "lexicons"
    for name in LEXICONS_WITHOUT_REFERENCE:
        digest.update(name.encode() + (folder / name).read_bytes())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def grading_identity() -> str:
    """Return name and digest of the rules and guards of `/judge`, for the provenance of grades."""
    told = " ".join((guards_identity(), *GRADING_CHECKS, *REPORT_CHECKS))
    return f"grading:sha256:{hashlib.sha256(told.encode()).hexdigest()}"
