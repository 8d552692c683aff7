"""The calibration of judges: the file that `medreward calibrate` writes and a service reads."""

import hashlib
import json
import math
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from medreward.errors import SetupError

Family = Literal["quantity", "short", "passage"]
"""The kind of a reference; judges err differently on each."""
FAMILIES: Final[tuple[Family, ...]] = get_args(Family)
ANY: Final = "any"
"""The family of an entry that serves references whose own family has no entry."""

SHORT_WORDS: Final = 8
LEAST_P: Final = 1e-6
"""A judge may round to 0 and 1, whose logits are infinite."""

Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=0)]


class _Record(BaseModel):
    """A closed model, so that a misspelt key is refused and not ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Entry(_Record):
    """The calibration of one judge under one template, for one family of references."""

    engine: Annotated[str, Field(min_length=1)]
    """The judge's identity, as in `provenance.judge` of a reply."""
    template: Annotated[str, Field(min_length=1)]
    template_sha: str
    family: Family | Literal["any"] = ANY
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    bias: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    threshold: Probability
    """A calibrated P(YES) above it is a YES if the judge does not abstain."""
    no_below: Probability
    """At or below it the verdict is NO."""
    yes_above: Probability
    """Above it the verdict is YES; from `no_below` to it the judge abstains."""
    labels: Count
    """Number of labels that the entry was fitted on."""
    positives: Count
    """Number of them by which answer and reference mean the same."""
    labels_sha256: str
    alpha_fpr: Rate
    """Certified upper bound of the share of wrong answers above `yes_above`."""
    alpha_fnr: Rate
    """Certified upper bound of the share of right answers at or below `no_below`."""
    confidence: Rate
    """Confidence of each of the two certificates."""
    ece_before: Probability
    ece_after: Probability
    sensitivity: Probability
    """Share of the right answers above `threshold`."""
    specificity: Probability
    """Share of the wrong answers at or below `threshold`."""
    abstained: Probability
    """Share of the labels between `no_below` and `yes_above`."""

    @model_validator(mode="after")
    def _thresholds_ascend(self) -> Self:
        if not self.no_below <= self.threshold <= self.yes_above:
            raise ValueError("no_below, threshold and yes_above must not descend")
        if self.positives > self.labels:
            raise ValueError("there cannot be more positives than labels")
        return self

    @property
    def key(self) -> tuple[str, str, str]:
        """Engine, template and family, by which an entry is found."""
        return self.engine, self.template, self.family

    def calibrated(self, p: float) -> float:
        """Return the calibrated probability for the engine's P(YES) *p*."""
        return rescaled(p, self.temperature, self.bias)


class Calibration(_Record):
    """The entries of a file."""

    version: Literal[1] = 1
    entries: tuple[Entry, ...] = ()

    @field_validator("entries")
    @classmethod
    def _each_once(cls, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
        if len({entry.key for entry in entries}) < len(entries):
            raise ValueError("two entries have the same engine, template and family; leave one out")
        return entries

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 in hexadecimals of the content; the order of entries does not matter."""
        content = self.model_dump(mode="json")
        content["entries"].sort(key=lambda e: (e["engine"], e["template"], e["family"]))
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @cached_property
    def _by_key(self) -> dict[tuple[str, str, str], Entry]:
        return {entry.key: entry for entry in self.entries}

    def find(self, engine: str, template: str, family: str) -> Entry | None:
        """Return the entry of *family*, or the one for any family, or None."""
        found = self._by_key.get((engine, template, family))
        return found or self._by_key.get((engine, template, ANY))

    def renewed(self, entries: Iterable[Entry]) -> "Calibration":
        """Replace all entries of the judges and templates that *entries* name by *entries*."""
        new = tuple(entries)
        replaced = {entry.key[:2] for entry in new}
        kept = tuple(entry for entry in self.entries if entry.key[:2] not in replaced)
        return Calibration(entries=kept + new)


def logit(p: float) -> float:
    """Compute the logarithm of the odds of *p*, which is kept away from 0 and 1."""
    p = min(1 - LEAST_P, max(LEAST_P, p))
    return math.log(p / (1 - p))


def rescaled(p: float, temperature: float, bias: float) -> float:
    """Rescale a probability: sigmoid(logit(p) / temperature + bias), monotonic in *p*."""
    moved = logit(p) / temperature + bias
    if moved >= 0:
        return 1 / (1 + math.exp(-moved))
    odds = math.exp(moved)
    return odds / (1 + odds)


def family_of(reference: str) -> Family:
    """Classify a reference: a quantity if it holds a digit, otherwise by its length in words."""
    if any(char.isdigit() for char in reference):
        return "quantity"
    return "short" if len(reference.split(maxsplit=SHORT_WORDS)) <= SHORT_WORDS else "passage"


def load_calibration(path: Path) -> Calibration:
    """Read a calibration file.

    Raises:
        SetupError: it cannot be read, or is not a calibration; the message names the field.
    """
    fix = "write it anew with `medreward calibrate`"
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise SetupError(
            f"calibration {path}: cannot be read ({exc.strerror}); mend the path, or {fix}"
        ) from exc
    try:
        return Calibration.model_validate_json(content)
    except ValidationError as exc:
        # Inputs are left out of the message: the path may point to a file of samples by mistake.
        details = exc.errors(include_url=False, include_input=False, include_context=False)
        told = "; ".join(f"`{_path(d['loc'])}`: {d['msg']}" for d in details[:3])
        raise SetupError(f"calibration {path}: {told}; {fix}") from None


def _path(loc: tuple[int | str, ...]) -> str:
    return ".".join(str(part)[:64] for part in loc) or "the file"
