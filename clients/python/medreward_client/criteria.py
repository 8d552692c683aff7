"""The criteria of a sample, read from JSON or from a data set's cell."""

from collections.abc import Mapping

from medreward_client._types import Choice, ChoiceCriterion, Criterion

MOST_POINTS = 1000.0
"""The service's limit, of either sign."""


def read_criteria(value: object) -> tuple[Criterion | ChoiceCriterion, ...]:
    """Read a list of objects with `text` and either `points` or `choices`; nothing for None.

    HealthBench calls the text `criterion`. Other keys are ignored, and so are empty ones, which
    columns of Parquet have.

    Raises:
        ValueError: the value is something else; the message names the place and shows no text.
    """
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise ValueError("criteria: must be a list of objects")  # noqa: TRY004 - the data is wrong, not the call
    return tuple(_criterion(one, f"criteria[{at}]") for at, one in enumerate(value))


def _criterion(value: object, place: str) -> Criterion | ChoiceCriterion:
    given = _object(value, place)
    text = _text(given.get("text", given.get("criterion")), place)
    points, choices = given.get("points"), given.get("choices")
    if (points is None) == (choices is None):
        raise ValueError(f"{place}: must have either `points` or `choices`")
    if choices is None:
        return Criterion(text, _number(points, place))
    if not isinstance(choices, list | tuple):
        raise ValueError(f"{place}.choices: must be a list of objects")  # noqa: TRY004 - as above
    return ChoiceCriterion(
        text, tuple(_choice(one, f"{place}.choices[{at}]") for at, one in enumerate(choices))
    )


def _choice(value: object, place: str) -> Choice:
    given = _object(value, place)
    return Choice(_text(given.get("text"), place), _number(given.get("points"), place))


def _object(value: object, place: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{place}: must be an object")  # noqa: TRY004 - as above
    return value


def _text(value: object, place: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{place}.text: must be a text")  # noqa: TRY004 - as above
    return value


def _number(value: object, place: str) -> float:
    match value:
        # Compared before it is converted: an integer of JSON may be too large for a float.
        case int() | float() if type(value) is not bool and -MOST_POINTS <= value <= MOST_POINTS:
            return float(value)
        case _:
            raise ValueError(f"{place}.points: must be a number from -1000 to 1000")
