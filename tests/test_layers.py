"""What may import what in the service: the list below is the rule."""

from pathlib import Path

import pytest

from tests.support.import_graph import (
    SERVICE,
    Import,
    imported_names,
    imports_of,
    modules_of,
    room_of,
    upward,
)

LAYERS = [
    # A room imports rooms of lower layers alone, from the ground up.
    ["errors", "breaker", "offload", "guards"],
    ["samples", "telemetry", "admission", "lifecycle", "api_keys"],
    ["signals"],
    ["recipes"],
    ["settings", "parsing"],
    # Neither imports the other: the cache handles bytes by key.
    ["cache", "engines"],
    ["inference"],
    ["rewards", "exam"],
    ["pipeline", "runs"],
    ["service"],
    ["http"],
    ["app", "audit"],
    ["verifier"],
    ["cli"],
    ["__main__"],
]

ROOT = Path(__file__).parents[1]
NETWORK = {
    "asyncio",
    "socket",
    "ssl",
    "http",
    "urllib",
    "httpx",
    "aiohttp",
    "redis",
    "uvicorn",
    "fastapi",
}


@pytest.fixture(scope="module")
def imports() -> list[Import]:
    """The imports between the modules of the service."""
    return imports_of(SERVICE)


def test_every_room_has_a_layer() -> None:
    """Each module and folder of the package stands in the list, and the list names no other."""
    rooms = {room_of(module) for module in modules_of(SERVICE)} - {"medreward"}

    assert rooms == {room for layer in LAYERS for room in layer}


def test_no_import_leads_upwards(imports: list[Import]) -> None:
    """A room imports lower layers alone, so there is no circle either."""
    assert upward(imports, LAYERS) == []


@pytest.mark.parametrize(
    ("library", "importers"),
    [
        ("httpx", ("engines/remote/http_client.py",)),
        ("aiohttp", ("engines/remote/http_client.py",)),
        ("redis", ("cache/", "cli/cache.py")),
        ("fastapi", ("http/", "app.py")),
        ("starlette", ("http/", "app.py")),
    ],
)
def test_a_library_is_imported_in_one_place(library: str, importers: tuple[str, ...]) -> None:
    """HTTP, Redis and the web framework are each behind one door."""
    found = {
        str(path.relative_to(SERVICE))
        for path in modules_of(SERVICE).values()
        if library in {name.split(".")[0] for name in imported_names(path)}
    }

    assert [path for path in sorted(found) if not path.startswith(importers)] == []


@pytest.mark.parametrize(
    ("folder", "others"),
    [
        ("service/medreward", {"medreward_client", "medreward_eval", "medreward_trainer"}),
        ("clients/python/medreward_client", {"medreward", "medreward_eval", "medreward_trainer"}),
        ("clients/evaluation/medreward_eval", {"medreward", "medreward_trainer"}),
        ("clients/trainer/medreward_trainer", {"medreward", "medreward_eval"}),
    ],
)
def test_a_distribution_stands_without_the_others(folder: str, others: set[str]) -> None:
    """The service imports no client; trainer and evaluation import the client alone."""
    found = {
        (module, name)
        for module, path in modules_of(ROOT / folder).items()
        for name in imported_names(path)
        if name.split(".")[0] in others
    }

    assert found == set()


@pytest.mark.parametrize("room", ["parsing", "guards", "rewards"])
def test_the_arithmetic_waits_for_nothing(room: str) -> None:
    """Parsing, guards and rewards import neither asyncio nor a network library."""
    found = {
        (str(path.relative_to(SERVICE)), name)
        for path in Path(SERVICE / room).rglob("*.py")
        for name in imported_names(path)
        if name.split(".")[0] in NETWORK
    }

    assert found == set()
