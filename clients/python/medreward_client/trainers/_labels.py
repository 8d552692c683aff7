"""A label as trainers that know one column of ground truth pass it on, and the sample it makes."""

from collections.abc import Mapping
from types import MappingProxyType

import orjson

from medreward_client._types import Sample
from medreward_client.trainers._rows import read_sample
from medreward_client.trainers._texts import without_end

NOTHING: Mapping[str, object] = MappingProxyType({})


def read_labelled(
    response: str,
    label: object,
    *,
    row: Mapping[str, object] = NOTHING,
    group: str | None = None,
) -> Sample:
    """Make a sample of a response, as decoded with special tokens, and its label.

    The label is the reference, as a text or a list of accepted texts; or an object that holds it
    under `reference`, with `question` and `modality` if there are any; or such an object as JSON,
    in a text. What it does not say of the question and the modality, *row* may.

    Raises:
        TypeError: the label is something else, or has no reference; only its type is named.
    """
    parts = _object_in(label) if isinstance(label, str) else label
    if not isinstance(parts, Mapping):
        return read_sample(without_end(response), parts, row, group=group)
    if "reference" not in parts:
        raise TypeError("the label is an object without `reference`")
    return read_sample(without_end(response), parts["reference"], parts, row, group=group)


def _object_in(label: str) -> object:
    """Read a label that was written as JSON, since a data set's column often holds only texts."""
    if not label.lstrip().startswith("{"):
        return label
    try:
        found = orjson.loads(label)
    except orjson.JSONDecodeError:
        return label
    return found if isinstance(found, dict) and "reference" in found else label
