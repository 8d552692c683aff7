"""Fixtures of the client's tests."""

import pytest

from tests.client.stand_in import Ask, ask_async, ask_blocking


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio, the loop of every trainer we know."""
    return "asyncio"


@pytest.fixture(params=[ask_blocking, ask_async], ids=["blocking", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Ask through each client in turn: what holds for one holds for the other."""
    asking: Ask = request.param
    return asking
