"""The OpenAPI document is committed, valid, and what the app serves."""

import json
from pathlib import Path

import pytest
from openapi_spec_validator import validate

from tests.conftest import Serve

PINNED = Path(__file__).parents[2] / "service" / "openapi.json"


@pytest.mark.anyio
async def test_the_served_document_is_the_committed_one(serve: Serve) -> None:
    """A change of the contract shows as a change of service/openapi.json (`make docs`)."""
    async with serve() as client:
        served = (await client.get("/openapi.json")).json()

    assert served == json.loads(PINNED.read_text("utf-8"))


def test_the_document_is_valid_openapi() -> None:
    """Generators of clients can read it."""
    validate(json.loads(PINNED.read_text("utf-8")))


def test_every_route_of_the_contract_is_in_the_document() -> None:
    """The paths are those of docs/api.md."""
    assert set(json.loads(PINNED.read_text("utf-8"))["paths"]) == {
        "/reward",
        "/judge",
        "/recipes",
        "/recipes/{name}",
        "/livez",
        "/readyz",
        "/metrics",
        "/version",
    }
