"""Samples from the policy's response and a row of a trainer's data set, or a label alone."""

from collections.abc import Iterable, Mapping, Sequence

import orjson

from medreward_client._types import Sample
from medreward_client.trainers._texts import without_end

LONGEST_GROUP = 256
"""The service's limit of a group's name, in characters."""


def read_sample(
    response: str, ground_truth: object, *rows: Mapping[str, object], group: str | None = None
) -> Sample:
    """Build a sample from a response, its ground truth, and the rows' `question` and `modality`.

    Of several rows, the first that has the field counts.

    The ground truth is a text, a number, or several accepted ones in any sequence that the data
    set's file format produces. If it is missing, the service responds `invalid_reference`.

    Raises:
        TypeError: the ground truth is something else; only its type is named.
    """
    return Sample(
        response=response,
        reference=_read_reference(ground_truth),
        group=None if group is None else group[-LONGEST_GROUP:],
        question=_first("question", rows),
        modality=_first("modality", rows),
    )


def read_labelled(
    response: str, label: object, *rows: Mapping[str, object], group: str | None = None
) -> Sample:
    """Build a sample from a response, decoded with special tokens, and its label.

    The label is the reference, as a text or a list of accepted texts; or an object with
    `reference` and perhaps `question` and `modality`; or the JSON text of such an object. A
    question or modality that the label lacks is taken from *rows*.

    Raises:
        TypeError: the label is something else, or has no reference; only its type is named.
    """
    parts = _object_in(label) if isinstance(label, str) else label
    if not isinstance(parts, Mapping):
        return read_sample(without_end(response), parts, *rows, group=group)
    if "reference" not in parts:
        raise TypeError("the label is an object without `reference`")
    return read_sample(without_end(response), parts["reference"], parts, *rows, group=group)


def _object_in(label: str) -> object:
    """Parse a label that is JSON, since a data set's column often holds only texts."""
    if not label.lstrip().startswith("{"):
        return label
    try:
        found = orjson.loads(label)
    except orjson.JSONDecodeError:
        return label
    return found if isinstance(found, dict) and "reference" in found else label


def read_text(value: object) -> str | None:
    """Return a column's text; None if the row holds None, NaN or blanks."""
    return value if isinstance(value, str) and value.strip() else None


def _first(name: str, rows: Iterable[Mapping[str, object]]) -> str | None:
    return next(filter(None, (read_text(row.get(name)) for row in rows)), None)


def _read_reference(ground_truth: object) -> str | Sequence[str]:
    # Parquet returns a numpy array for a list; `tolist` converts it without importing numpy.
    plain = getattr(ground_truth, "tolist", lambda: ground_truth)()
    if isinstance(plain, list | tuple):
        return [_read_one(one) for one in plain if not _is_missing(one)] or ""
    return "" if _is_missing(plain) else _read_one(plain)


def _is_missing(value: object) -> bool:
    """Return True for None, or the NaN that pandas makes of it, which is unequal to itself."""
    return value is None or (isinstance(value, float) and value != value)  # noqa: PLR0124


def _read_one(value: object) -> str:
    if not isinstance(value, str | int | float):
        kind = type(value).__name__
        raise TypeError(f"the ground truth is a {kind}, not a text or a list of texts")
    return str(value)
