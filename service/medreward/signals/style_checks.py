"""The signal `style_checks`: the answer passes checks of its style, which are data (RLVRR).

    value = sum of the weights of the passed checks / sum of the weights of all checks

A check is of the answer's length, of an element of Markdown, of JSON, or a pattern.

Source: RLVRR, arXiv 2601.18533, `style_reward_func` of YJiangcm/RLVRR: the sum of the weights of the
passed checks.

Ours: there a check is Python from the data set, which is executed; here it is data. The sum is divided
by all weights, so that a sample with more checks is not worth more. Checks of the recipe come in
addition to those of the sample. A blank answer has 0: it would pass each check that forbids. Patterns are RE2's, which takes time linear in the text.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Literal, Self

import re2
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from medreward.signals.kind import Rollout, SignalKind, UnusableError

MAX_INSTRUCTIONS = 2000
"""Instructions of the compiled patterns of a sample or recipe, together: RE2 may run each of them for
each byte of the answer, so that `a[ab]{1000}c` takes 2 s for 256 KiB."""
PATTERN_BYTES = 2**20
"""Memory of one compiled pattern, at most; re2 keeps 128."""
_RE2 = re2.Options()
_RE2.max_mem = PATTERN_BYTES
# It would write to stderr, patterns included.
_RE2.log_errors = False

UNITS: Mapping[str, Callable[[str], int]] = {
    "characters": len,
    "words": lambda text: len(text.split()),
    "lines": lambda text: sum(1 for line in text.splitlines() if line.strip()),
}
ELEMENTS = {
    # Each begins at the start of a line or takes a run of characters once, so none is tried twice.
    "heading": re.compile(r"^#{1,6}[ \t]+\S", re.MULTILINE),
    "bullet": re.compile(r"^[ \t]*[-*+][ \t]+\S", re.MULTILINE),
    "numbered": re.compile(r"^[ \t]*\d{1,9}[.)][ \t]+\S", re.MULTILINE),
    "table_row": re.compile(r"^[ \t]*\|[^\n]*\|[ \t]*$", re.MULTILINE),
    "bold": re.compile(r"\*\*[^*\n]+\*\*"),
    "code_block": re.compile(r"```[^`]*```"),
}
"""Elements of Markdown, by a simple expression for each."""


class _Check(BaseModel):
    """What all checks have."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] = 1.0


class _Counted(_Check):
    """A check of a number."""

    at_least: Annotated[int, Field(ge=0, le=10**7)] = 0
    at_most: Annotated[int | None, Field(ge=0, le=10**7)] = None

    @model_validator(mode="after")
    def _bounds_agree(self) -> Self:
        if self.at_most is not None and self.at_most < self.at_least:
            raise ValueError("`at_most` is below `at_least`")
        return self

    def _allows(self, count: int) -> bool:
        return self.at_least <= count and (self.at_most is None or count <= self.at_most)


class Length(_Counted):
    """The answer has so many characters, words between white space, or lines that are not blank."""

    kind: Literal["length"]
    unit: Literal["characters", "words", "lines"] = "words"

    def passes(self, answer: str) -> bool:
        """Return whether an answer passes."""
        return self._allows(UNITS[self.unit](answer))


class Markdown(_Counted):
    """The answer has so many of an element of Markdown; `at_most = 0` forbids it."""

    kind: Literal["markdown"]
    element: Literal["heading", "bullet", "numbered", "table_row", "bold", "code_block"]

    def passes(self, answer: str) -> bool:
        """Return whether an answer passes."""
        return self._allows(len(ELEMENTS[self.element].findall(answer)))


class Json(_Check):
    """The whole answer is JSON; with keys, an object that has them."""

    kind: Literal["json"]
    keys: Annotated[tuple[Annotated[str, Field(max_length=128)], ...], Field(max_length=64)] = ()

    def passes(self, answer: str) -> bool:
        """Return whether an answer passes."""
        try:
            read = json.loads(answer)
        except (ValueError, RecursionError):
            return False
        return not self.keys or (isinstance(read, dict) and read.keys() >= set(self.keys))


def _compiles(pattern: str) -> str:
    try:
        re2.compile(pattern.encode(), _RE2)
    except (re2.error, UnicodeEncodeError) as exc:
        raise ValueError(
            "no pattern of RE2, which has no look-around and no \\1, or too large a one"
        ) from exc
    return pattern


class Pattern(_Check):
    """A pattern of RE2 is found in the answer, or with `found = false` is not."""

    kind: Literal["pattern"]
    pattern: Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_compiles)]
    found: bool = True

    def passes(self, answer: str) -> bool:
        """Return whether an answer passes."""
        # Bytes, since for text re2 computes the place of each match in characters.
        found = re2.search(self.pattern.encode(), answer.encode("utf-8", "replace"), _RE2)
        return (found is not None) == self.found

    @property
    def instructions(self) -> int:
        """Size of the compiled pattern."""
        size: int = re2.compile(self.pattern.encode(), _RE2).programsize
        return size


Check = Annotated[Length | Markdown | Json | Pattern, Field(discriminator="kind")]


def _are_small(checks: tuple[Check, ...]) -> tuple[Check, ...]:
    size = sum(check.instructions for check in checks if isinstance(check, Pattern))
    if size > MAX_INSTRUCTIONS:
        raise ValueError("the patterns are too large together; repeat less, or use fewer")
    return checks


Checks = Annotated[tuple[Check, ...], Field(max_length=32), AfterValidator(_are_small)]


class Options(BaseModel):
    """Checks of all samples."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    checks: Checks = ()


class Inputs(BaseModel):
    """Checks of one sample."""

    model_config = ConfigDict(frozen=True)

    checks: Checks = ()


def value(rollout: Rollout, inputs: Inputs, options: Options) -> float:
    """Return the value, from 0 to 1.

    Raises:
        UnusableError: neither the recipe nor the sample has a check.
    """
    checks = (*options.checks, *inputs.checks)
    if not checks:
        raise UnusableError("checks: none, and the recipe has none either; give at least one")
    if not rollout.answer.strip():
        return 0.0
    passed = sum(check.weight for check in checks if check.passes(rollout.answer))
    # Sums in another order may differ in the last digit.
    return min(1.0, passed / sum(check.weight for check in checks))


KIND = SignalKind(options=Options, inputs=Inputs, value=value)
