"""A row of a trainer's data set and the policy's response to it, as the sample to score."""

from collections.abc import Iterable, Mapping, Sequence

from medreward_client._types import Sample

LONGEST_GROUP = 256
"""Characters of a group's name, as the service takes them."""


def read_sample(
    response: str, ground_truth: object, *rows: Mapping[str, object], group: str | None = None
) -> Sample:
    """Make a sample of a response, its ground truth, and the rows' `question` and `modality`.

    Where there are several rows, the first that says something counts.

    The ground truth is a text, a number, or several accepted ones in whatever sequence the data
    set's file format made of them. Where it is missing the service says `invalid_reference`.

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


def read_text(value: object) -> str | None:
    """Give a column's text; a row without it holds None, NaN or nothing."""
    return value if isinstance(value, str) and value.strip() else None


def _first(name: str, rows: Iterable[Mapping[str, object]]) -> str | None:
    return next(filter(None, (read_text(row.get(name)) for row in rows)), None)


def _read_reference(ground_truth: object) -> str | Sequence[str]:
    # Parquet gives a numpy array where a list was written; numpy need not be here to know it.
    plain = getattr(ground_truth, "tolist", lambda: ground_truth)()
    if isinstance(plain, list | tuple):
        return [_read_one(one) for one in plain if not _is_missing(one)] or ""
    return "" if _is_missing(plain) else _read_one(plain)


def _is_missing(value: object) -> bool:
    """Tell whether there is nothing: None, or the NaN that pandas makes of it, unequal to itself."""
    return value is None or (isinstance(value, float) and value != value)  # noqa: PLR0124


def _read_one(value: object) -> str:
    if not isinstance(value, str | int | float):
        kind = type(value).__name__
        raise TypeError(f"the ground truth is a {kind}, not a text or a list of texts")
    return str(value)
