"""A judge's error rates, from the file that `medreward calibrate` writes."""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medreward_eval.errors import BadData
from medreward_eval.records import Vote
from medreward_eval.statistics.intervals import Calibrated

TEMPLATE: Final = "equivalence"
ANY: Final = "any"
"""The family of the entry for references whose own family has no entry."""
SHORT_WORDS: Final = 8
LEAST_P: Final = 1e-6
"""The least probability in a logit: a judge may round to 0 and 1, whose logits are infinite."""

_APPLIED = re.compile(
    r"(?P<engine>.*?)(?P<abstains>\+abstains)?\+calibration:(?P<digest>[0-9a-f]+)"
)
"""The name of a judge to which its service applies a calibration."""

Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Entry(BaseModel):
    """Error rates of a judge under one template for a family of references; other keys are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    engine: str
    template: str
    template_sha: str
    family: str = ANY
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    bias: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    threshold: Probability
    labels: Annotated[int, Field(ge=0)]
    positives: Annotated[int, Field(ge=0)]
    sensitivity: Probability
    specificity: Probability

    @property
    def calibrated(self) -> Calibrated:
        """The counts behind the entry's rates."""
        negatives = self.labels - self.positives
        return Calibrated(
            round(self.sensitivity * self.positives),
            self.positives,
            round(self.specificity * negatives),
            negatives,
        )

    def raw_says_yes(self, p_yes: float) -> bool:
        """Return the calibrated verdict of a raw P(YES).

        It is YES if sigmoid(logit(p) / temperature + bias) is above the threshold, as in the service.
        """
        p = min(1 - LEAST_P, max(LEAST_P, p_yes))
        moved = math.log(p / (1 - p)) / self.temperature + self.bias
        # `math.exp` overflows for large arguments.
        odds = math.exp(-abs(moved))
        return (1 if moved >= 0 else odds) / (1 + odds) > self.threshold


@dataclass(frozen=True, slots=True)
class JudgeErrors:
    """Error rates of the judge of a file of grades, by family of references."""

    entries: Mapping[str, Entry]
    is_applied: bool
    """True if the service applied this calibration when it graded."""

    def entry_of(self, reference: str) -> Entry | None:
        """Return the entry for the reference's family, the one for any, or None."""
        return self.entries.get(family_of(reference)) or self.entries.get(ANY)

    def says_yes(self, entry: Entry, vote: Vote) -> bool | None:
        """Return the verdict whose errors the calibration counted; None if it cannot be derived.

        If the service applied the calibration, its own verdict counts: the probability is rounded,
        and rounding may move it across the threshold.
        """
        if vote.verdict is None or vote.p_yes is None:
            return None
        return vote.verdict == "YES" if self.is_applied else entry.raw_says_yes(vote.p_yes)


def judge_errors(path: Path, headers: Sequence[Mapping[str, Any]]) -> JudgeErrors:
    """Read a calibration, and check that it is of the grader in a file's *headers*.

    Raises:
        BadData: the calibration cannot be read, is invalid, or is of another judge or template.
    """
    entries, digest = load_calibration(path)
    judge, template_sha = _graded_by(headers)
    applied = _APPLIED.fullmatch(judge)
    if applied and applied["abstains"]:
        raise BadData(
            "the judge abstained where it was unsure, and a calibration counts errors without "
            "that: to correct accuracies, grade with MEDREWARD_ABSTAIN=false at the service"
        )
    engine = applied["engine"] if applied else judge
    found = {
        entry.family: entry
        for entry in entries
        if (entry.engine, entry.template) == (engine, TEMPLATE)
        and f"sha256:{entry.template_sha}" == template_sha
    }
    if not found or (applied and not digest.startswith(applied["digest"])):
        raise BadData(
            f"{path} is not a calibration of what graded the file ({judge}, {template_sha}); "
            "write one with `medreward calibrate` at the same service, or name the one it reads"
        )
    return JudgeErrors(found, is_applied=applied is not None)


def load_calibration(path: Path) -> tuple[tuple[Entry, ...], str]:
    """Read a file of `medreward calibrate`; return its entries and fingerprint, as the service does.

    Raises:
        BadData: the file cannot be read, or is no calibration.
    """
    try:
        content = path.read_bytes()
        entries = _File.model_validate_json(content).entries
    except OSError as exc:
        raise BadData(f"{path} cannot be read: {exc.strerror}") from exc
    except ValidationError as exc:
        where = ".".join(map(str, exc.errors(include_input=False)[0]["loc"])) or "the file"
        raise BadData(
            f"{path} is no calibration (see {where}); write one with `medreward calibrate`"
        ) from None
    return entries, _fingerprint(json.loads(content))


class _File(BaseModel):
    model_config = ConfigDict(extra="ignore")

    entries: tuple[Entry, ...]


def _fingerprint(content: dict[str, Any]) -> str:
    content["entries"].sort(key=lambda e: (e["engine"], e["template"], e.get("family", ANY)))
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _graded_by(headers: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Return the judge and the template's fingerprint of a file's verdicts."""
    bases = {
        (header.get("judges", {}).get(TEMPLATE), header.get("templates", {}).get(TEMPLATE))
        for header in headers
    }
    if len(bases) > 1:
        raise BadData("the grades are of several judges, which one calibration cannot correct")
    judge, template_sha = bases.pop()
    if judge is None or template_sha is None:
        raise BadData("there are no verdicts in the file, so there is nothing to correct")
    return judge, template_sha


def family_of(reference: str) -> str:
    """Return a reference's family by the service's rules: error rates differ between families."""
    if any(char.isdigit() for char in reference):
        return "quantity"
    return "short" if len(reference.split(maxsplit=SHORT_WORDS)) <= SHORT_WORDS else "passage"
