"""Fixtures and hooks of all tests: asyncio, an app with engines of the test's choice, and markers."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings

from medreward.app import create_app
from medreward.engines.embedder import Embedder
from medreward.engines.embedders.hashed import HashedEmbedder
from medreward.engines.judge import Judge
from medreward.engines.judges.scripted import ScriptedJudge
from medreward.engines.registry import BuildContext, build_embedder, build_judge
from medreward.settings import Settings
from tests import programs
from tests.support.logs import log_settings
from tests.support.process import Service, serving
from tests.support.service import over_asgi

pytest_plugins = ["tests.redis_servers"]

MEDIX = "medix-r1"
ALL_TOOLS = os.environ.get("MEDREWARD_ALL_TOOLS") == "1"
"""If set, a program that is missing is a failure of the tests that need it."""

# No example has a deadline: on a busy machine any of them may take long.
settings.register_profile(
    "default", deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", settings.get_profile("default"), max_examples=200)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

Serve = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


# Before pytest-xdist reads the groups.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests of real models to one worker, since each worker that loads them takes minutes."""
    for item in items:
        if item.get_closest_marker("models") and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group("models"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose programs are missing, before any of its fixtures starts."""
    for marker in item.iter_markers("needs"):
        problem = programs.missing(*marker.args)
        if problem is not None:
            (pytest.fail if ALL_TOOLS else pytest.skip)(problem)


@pytest.fixture(scope="session", autouse=True)
def _settings_of_tests() -> None:
    """Choose the small profile, and hide the variable of the tests, which services refuse.

    A test of the language model of `embedded` says so, and is marked `slow`: it takes gigabytes.
    """
    os.environ.pop("MEDREWARD_ALL_TOOLS", None)
    os.environ["MEDREWARD_PROFILE"] = "embedded-small"


@pytest.fixture(autouse=True)
def _logging_left_as_found() -> Iterator[None]:
    """Fail the test that leaves a log level or handler behind; a later one would miss its records."""
    before = log_settings()
    yield
    assert log_settings() == before


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Asyncio is what uvicorn runs."""
    return "asyncio"


@pytest.fixture
def serve() -> Serve:
    """A service in this process, loaded and ready, and a client that reaches it over ASGI.

    Its default recipe is the published one, which asks the engines whatever an answer says.
    """

    def serve(
        *, judge: Judge | None = None, embedder: Embedder | None = None, **settings: Any
    ) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        chosen = {"judge": "scripted", "embedder": "hashed", "recipe": MEDIX} | settings
        judge, embedder = judge or ScriptedJudge(), embedder or HashedEmbedder()
        return over_asgi(create_app(Settings(**chosen), judge=judge, embedder=embedder))

    return serve


@dataclass(frozen=True)
class RealEngines:
    """The engines of a profile, with their models."""

    judge: Judge
    embedder: Embedder
    worker: Executor


@pytest.fixture(scope="session")
def real_engines() -> Iterator[RealEngines]:
    """The profile `embedded-small`, loaded once; `make models` has to have been run."""
    with ThreadPoolExecutor(max_workers=1) as worker:
        context = BuildContext(Settings(), worker)
        yield RealEngines(build_judge(context), build_embedder(context), worker)


@pytest.fixture(scope="session")
def language_model() -> Iterator[RealEngines]:
    """A tiny language model as the judge of everything: its verdicts are worth nothing."""
    with ThreadPoolExecutor(max_workers=1) as worker:
        settings = Settings(
            judge="causal_lm",
            judge_model="smollm2-135m-instruct",
            # Some processors compute in bfloat16 by default, where batches change the last digits.
            causal_lm_dtype="float32",
        )
        context = BuildContext(settings, worker)
        yield RealEngines(build_judge(context), build_embedder(context), worker)


@pytest.fixture(scope="session")
def embedded_service() -> Iterator[Service]:
    """The profile `embedded-small` with its default recipe, as a process; tests share its cache."""
    with serving(None, recipe="medix-r1-guarded") as service:
        yield service
