"""Logs of the tests of the cache: captured, so that they stay out of the output."""

from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
import structlog

Logs = list[MutableMapping[str, Any]]


@pytest.fixture(autouse=True)
def logged() -> Iterator[Logs]:
    """The log events of one test."""
    with structlog.testing.capture_logs() as logs:
        yield logs
