"""What the tests of real trainers share: a running service, and models that do as they are told.

Each trainer has an environment of its own, made by `make trainers`. There, conftest files above
this folder are left out by --confcutdir, since they import the server; elsewhere nothing here is
collected.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.real_trainers.serving import Models, Service, serving

PACKAGE_OF = {
    "test_ms_swift_real.py": "swift",
    "test_openrlhf_real.py": "openrlhf",
    "test_slime_real.py": "slime",
    "test_trainer_maths_verl.py": "verl",
    "test_trainer_recipes_verl.py": "verl",
    "test_trl_real.py": "trl",
    "test_verifiers_real.py": "verifiers",
    "test_verl_real.py": "verl",
}
collect_ignore = [test for test, package in PACKAGE_OF.items() if find_spec(package) is None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies here, and make only our own warnings errors: trainers have many."""
    for item in items:
        if item.path.name in PACKAGE_OF and item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.trainers)
            # The last one that fits decides.
            item.add_marker(pytest.mark.filterwarnings("ignore", "error:::medreward_client"))


@pytest.fixture
def models() -> Iterator[Models]:
    """A stand-in for judge and embedder."""
    with Models() as models:
        yield models


@pytest.fixture
def service(models: Models) -> Iterator[Service]:
    """A service with the stand-in's models."""
    with serving(models) as service:
        yield service
