"""How a judge errs, from the file that `medreward calibrate` writes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medreward_eval.errors import BadData
from medreward_eval.intervals import Calibrated

ANY: Final = "any"
"""The family of entries for references whose own family has none."""
SHORT_WORDS: Final = 8

Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Entry(BaseModel):
    """One judge under one template, for one family of references; the rest of it is not needed."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    engine: str
    template: str
    template_sha: str
    family: str = ANY
    labels: Annotated[int, Field(ge=0)]
    positives: Annotated[int, Field(ge=0)]
    sensitivity: Probability
    specificity: Probability

    @property
    def calibrated(self) -> Calibrated:
        """The counts behind its rates."""
        negatives = self.labels - self.positives
        return Calibrated(
            round(self.sensitivity * self.positives),
            self.positives,
            round(self.specificity * negatives),
            negatives,
        )


class _File(BaseModel):
    model_config = ConfigDict(extra="ignore")

    entries: tuple[Entry, ...]


def load_calibration(path: Path) -> tuple[Entry, ...]:
    """Read a file of `medreward calibrate`.

    Raises:
        BadData: it cannot be read, or is none.
    """
    try:
        return _File.model_validate_json(path.read_bytes()).entries
    except OSError as exc:
        raise BadData(f"{path} cannot be read: {exc.strerror}") from exc
    except ValidationError as exc:
        where = ".".join(map(str, exc.errors(include_input=False)[0]["loc"])) or "the file"
        raise BadData(
            f"{path} is no calibration (see {where}); write one with `medreward calibrate`"
        ) from None


def fitting(entries: tuple[Entry, ...], headers: Sequence[Mapping[str, Any]]) -> dict[str, Entry]:
    """Choose the entries, by family, of the judge and template that a file's verdicts are by.

    Raises:
        BadData: there are none, so nothing can be corrected by this calibration.
    """
    bases = {
        (
            header.get("judges", {}).get("equivalence"),
            header.get("templates", {}).get("equivalence"),
        )
        for header in headers
    }
    found = [
        {
            entry.family: entry
            for entry in entries
            if entry.template == "equivalence"
            and (entry.engine, f"sha256:{entry.template_sha}") == basis
        }
        for basis in bases
    ]
    if len(found) != 1 or not found[0]:
        judges = ", ".join(sorted(str(judge) for judge, _ in bases)) or "none"
        raise BadData(
            f"the calibration is not of what graded the file ({judges}), or is of another wording "
            "of the template; write one with `medreward calibrate` at the same service"
        )
    return found[0]


def family_of(reference: str) -> str:
    """Tell what kind of reference it is, as the service does: judges err differently on each."""
    if any(char.isdigit() for char in reference):
        return "quantity"
    return "short" if len(reference.split(maxsplit=SHORT_WORDS)) <= SHORT_WORDS else "passage"
