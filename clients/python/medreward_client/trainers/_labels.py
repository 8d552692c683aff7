"""Samples from labels, for trainers that pass only one column of ground truth."""

from collections.abc import Mapping

import orjson

from medreward_client._types import Sample
from medreward_client.trainers._rows import read_sample
from medreward_client.trainers._texts import without_end


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
