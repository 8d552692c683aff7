"""The OpenAPI document is committed, valid, and what the app serves."""

import json
from inspect import iscoroutinefunction
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from openapi_spec_validator import validate

from medreward.app import create_app
from medreward.http import schemas
from medreward.settings import Settings
from tests.conftest import Serve

PINNED = Path(__file__).parents[2] / "service" / "openapi.json"


@pytest.mark.anyio
async def test_the_served_document_is_the_committed_one(serve: Serve) -> None:
    """A change of the contract shows as a change of service/openapi.json (`make docs`)."""
    async with serve() as client:
        served = (await client.get("/openapi.json")).json()

    assert served == json.loads(PINNED.read_text("utf-8"))


def test_the_document_is_made_once_and_holds_up_no_request() -> None:
    """It takes half a second of CPU, and `/docs` asks for no key: it is made in a thread."""
    app = create_app(Settings(judge="scripted", embedder="hashed"))
    (page, served) = [
        route.endpoint
        for route in app.routes
        if isinstance(route, APIRoute) and route.path in {"/docs", "/openapi.json"}
    ]

    assert app.openapi() is app.openapi()
    assert not iscoroutinefunction(page)
    assert not iscoroutinefunction(served)


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
        "/compat/openrlhf",
        "/compat/slime",
        "/verify",
        "/seed_session",
        "/aggregate_metrics",
        "/runs/{run_id}",
        "/reverify_mode",
        "/livez",
        "/readyz",
        "/startupz",
        "/metrics",
        "/version",
    }


SAID = "<X_RAY><thinking>hm</thinking><answer>{}</answer>"
EVERY_OUTCOME = [
    {"id": "judged", "response": SAID.format("effusion"), "reference": "pleural effusion"},
    {"id": "equal", "response": SAID.format("effusion"), "reference": "effusion"},
    {"id": "rejected", "response": SAID.format("?"), "reference": "effusion"},
    {"id": "malformed", "response": "effusion", "reference": ["effusion", "hydrothorax"]},
    {"id": "modal", "response": SAID.format("air"), "reference": "free air", "modality": "X_RAY"},
    {"id": None, "response": SAID.format("effusion"), "reference": " "},
    {"response": SAID.format("x" * 300), "reference": "effusion"},
]


@pytest.mark.anyio
async def test_a_reward_reply_is_what_its_wire_type_says(serve: Serve) -> None:
    """It is written without the type, so it is read with it: every field is there, and no other."""
    async with serve(max_text_bytes=200) as client:
        for _ in range(2):  # asked, then remembered
            reply = (await client.post("/reward", json={"samples": EVERY_OUTCOME})).json()

            assert schemas.RewardReply.model_validate(reply).model_dump(mode="json") == reply
            assert {result["status"] for result in reply["results"]} == {"scored", "unscored"}
