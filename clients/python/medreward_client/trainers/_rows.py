"""Samples from the policy's response and a row of a trainer's data set, or a label alone."""

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

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
    set's file format produces, or in a text that JSON, Python or numpy wrote. If it is missing, the
    service responds `invalid_reference`.

    Raises:
        TypeError: the ground truth is something else, also in such a text; only its type is named.
    """
    return Sample(
        response=response,
        reference=read_reference(ground_truth),
        group=None if group is None else group[-LONGEST_GROUP:],
        question=_first("question", rows),
        modality=_first("modality", rows),
    )


def read_labelled(
    response: str, label: object, *rows: Mapping[str, object], group: str | None = None
) -> Sample:
    """Build a sample from a response, decoded with special tokens, and its label.

    The label is the reference, as a text or a list of accepted texts; or an object with
    `reference` and perhaps `question` and `modality`; or the JSON text of such a list or object. A
    question or modality that the label lacks is taken from *rows*.

    Raises:
        TypeError: the label is something else, or has no reference; only its type is named.
    """
    parts = written_in(label) if isinstance(label, str) else label
    if not isinstance(parts, Mapping):
        return read_sample(without_end(response), parts, *rows, group=group)
    if "reference" not in parts:
        raise TypeError("the label is an object without `reference`")
    return read_sample(without_end(response), parts["reference"], parts, *rows, group=group)


def written_in(text: str) -> object:
    """Return the list of texts, or the object, that a text holds; the text itself if it is neither.

    A data set's column often holds only texts. Numbers in brackets may be an interval, so a list
    without any text is left as it is.
    """
    ends = text.strip()[:1] + text.strip()[-1:]
    if ends not in {"[]", "{}"}:
        return text
    found = _parsed(text.strip())
    if isinstance(found, dict):
        return found
    is_list = isinstance(found, list) and (
        not found or not all(isinstance(one, int | float) for one in found)
    )
    return found if is_list else text


_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_GAP = re.compile(rf"({_QUOTED})(\s*(?=['\"]))?", re.DOTALL)
_WRITTEN_BY_PYTHON = re.compile(
    r"""(?:[^\\]|\\(?:[\\'"ntr]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}))*""", re.DOTALL
)


def _parsed(text: str) -> object:
    """Parse a text as JSON, or as Python or numpy write a list or an object; else None."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        # A backslash that Python did not write would make it warn.
        if not _WRITTEN_BY_PYTHON.fullmatch(text):
            return None
    # numpy writes no commas, and Python would join the texts.
    separated = _GAP.sub(lambda found: found[1] + ("" if found[2] is None else ", "), text)
    try:
        return cast("object", ast.literal_eval(separated))
    except (TypeError, ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def read_text(value: object) -> str | None:
    """Return a column's text; None if the row holds None, NaN or blanks."""
    return value if isinstance(value, str) and value.strip() else None


def _first(name: str, rows: Iterable[Mapping[str, object]]) -> str | None:
    return next(filter(None, (read_text(row.get(name)) for row in rows)), None)


def read_reference(ground_truth: object) -> str | Sequence[str]:
    """Return a ground truth as a text, or as several; empty if it is missing.

    Raises TypeError, as `read_sample`.
    """
    # Parquet returns a numpy array for a list; `tolist` converts it without importing numpy.
    plain = getattr(ground_truth, "tolist", lambda: ground_truth)()
    if isinstance(plain, str):
        plain = written_in(plain)
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
