"""Services that the adapters' tests share, and adapters loaded as trainers load a file."""

from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType

import pytest

from tests.client_adapters.told_service import ToldService, told_service
from tests.support.judge_server import Models, Say, equal_is_yes
from tests.support.process import serving

SCORED, UNSCORED = "left lower lobe", "mass of Mrs Roe"


@pytest.fixture
def service() -> Iterator[ToldService]:
    """A service that does what the response says."""
    with told_service() as service:
        yield service


def fails_for_one(answer: str, reference: str) -> Say:
    """Refuse one answer."""
    return "400" if answer == UNSCORED else equal_is_yes(answer, reference)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The URL of a real service whose judge fails for UNSCORED."""
    with Models(fails_for_one) as models, serving(models) as service:
        yield service.url


@pytest.fixture
def load() -> Callable[[ModuleType, str], ModuleType]:
    """Load a module from its file, without its package and under another name."""

    def load(adapter: ModuleType, name: str) -> ModuleType:
        spec = spec_from_file_location(name, adapter.__file__ or "")
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
