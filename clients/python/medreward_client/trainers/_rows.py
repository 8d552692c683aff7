"""A row of a trainer's data set and the policy's response to it, as the sample to score."""

from collections.abc import Mapping, Sequence

from medreward_client._types import Sample


def read_sample(
    response: str, ground_truth: object, row: Mapping[str, object], *, group: str | None = None
) -> Sample:
    """Make a sample of a response, its ground truth, and the row's `question` and `modality`.

    The ground truth is a text, a number, or several accepted ones in whatever sequence the data
    set's file format made of them. Where it is missing the service says `invalid_reference`.

    Raises:
        TypeError: the ground truth is something else; only its type is named.
    """
    return Sample(
        response=response,
        reference=_read_reference(ground_truth),
        group=group,
        question=_read_text(row.get("question")),
        modality=_read_text(row.get("modality")),
    )


def _read_reference(ground_truth: object) -> str | Sequence[str]:
    if ground_truth is None:
        return ""
    if isinstance(ground_truth, str | int | float):
        return str(ground_truth)
    # Parquet gives a numpy array where a list was written; numpy need not be here to know it.
    several = getattr(ground_truth, "tolist", lambda: ground_truth)()
    if not isinstance(several, Sequence):
        kind = type(ground_truth).__name__
        raise TypeError(f"the ground truth is a {kind}, not a text or a list of texts")
    return [str(one) for one in several]


def _read_text(value: object) -> str | None:
    """Give a column's text; a row without it holds None, NaN or nothing."""
    return value if isinstance(value, str) and value.strip() else None
