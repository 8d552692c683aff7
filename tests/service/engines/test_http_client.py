"""The wire itself: what is sent, and how a reply is read."""

import json

import pytest

from medreward.engines.remote.http_client import Reply, encoded, json_of, retry_after_s
from medreward.errors import BackendDown, NonsenseReply


@pytest.mark.parametrize(
    "text", ["", "größer", "\x00", "\u2028", "\U0001f600", "\ud800", "a\udfffb"]
)
def test_any_text_survives_being_sent(text: str) -> None:
    """Also what is no UTF-8."""
    assert json.loads(encoded({"text": text, "list": [text]})) == {"text": text, "list": [text]}


@pytest.mark.parametrize("status", [199, 301, 400, 500])
def test_what_is_no_answer_is_a_server_that_cannot(status: int) -> None:
    """The body of an error is not read as an answer, whatever it says."""
    with pytest.raises(BackendDown, match=str(status)):
        json_of(Reply(status, b"{}"))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"<html>", b"[" * 100_000])
def test_what_is_no_json_is_nonsense(content: bytes) -> None:
    """And is not repeated."""
    with pytest.raises(NonsenseReply) as caught:
        json_of(Reply(200, content))
    assert "html" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("2", 2.0),
        ("0.5", 0.5),
        ("-1", 0.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("nan", None),
        ("inf", None),
        ("", None),
    ],
)
def test_retry_after_is_read_in_seconds(header: str, seconds: float | None) -> None:
    """A date, or what is no number, says nothing."""
    assert retry_after_s({"Retry-After": header}) == seconds
    assert retry_after_s({}) is None
