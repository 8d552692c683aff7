"""Lines of JSON, as the client, the trainer and the evaluation read them."""

import pytest

from medreward_client.jsonl import BYTE_ORDER_MARK, numbered_lines, object_in


def test_lines_are_numbered_as_an_editor_numbers_them() -> None:
    """Empty lines are counted but not yielded, and byte order marks are removed."""
    file = [BYTE_ORDER_MARK + b'{"a":1}\n', b" \n", BYTE_ORDER_MARK + b"[]\n", b'{"b"']

    assert list(numbered_lines(file)) == [(1, b'{"a":1}\n'), (3, b"[]\n"), (4, b'{"b"')]


@pytest.mark.parametrize(
    ("line", "found"),
    [(b'{"a":1}\n', {"a": 1}), (b"[]", None), (b"1", None), (b'{"a"', None), (b"\xff", None)],
)
def test_only_an_object_is_one(line: bytes, found: dict[str, int] | None) -> None:
    """Other JSON, half a line and invalid UTF-8 return None."""
    assert object_in(line) == found
