"""The public names; all others may move."""

import ast
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import medreward_client

PACKAGE = Path(medreward_client.__file__).parent

PUBLIC_NAMES = [
    "Asking",
    "AsyncRewardClient",
    "BadReply",
    "Choice",
    "ChoiceCriterion",
    "Component",
    "Counts",
    "Criterion",
    "CriterionResult",
    "EngineState",
    "GroupRank",
    "GroupResult",
    "Health",
    "Item",
    "JudgeCounts",
    "JudgeExam",
    "JudgeProvenance",
    "JudgeReply",
    "Judged",
    "JudgedCriterion",
    "MedrewardError",
    "NoReward",
    "OtherResults",
    "Overloaded",
    "Problem",
    "Provenance",
    "RequestRefused",
    "RewardClient",
    "RewardReply",
    "Sample",
    "Scored",
    "Tally",
    "TimedOut",
    "TryAgain",
    "Unavailable",
    "Unjudged",
    "Unscored",
    "Veto",
    "Vote",
    "read_results",
    "score_many",
]


def public_names_of(module: ModuleType) -> list[str]:
    """List what a user can reach on *module* without an underscore."""
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    )


def test_the_public_names_are_these() -> None:
    """A name comes or goes only together with this list."""
    assert public_names_of(medreward_client) == PUBLIC_NAMES
    assert sorted(medreward_client.__all__) == PUBLIC_NAMES


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_a_public_name_says_what_it_is(name: str) -> None:
    """Every public class has a docstring of its own, not the one dataclasses write."""
    doc = getattr(medreward_client, name).__doc__
    assert doc
    assert not doc.startswith(f"{name}(")


def test_the_public_modules_are_these() -> None:
    """There is one place to import from, one more for adapters, and what our own commands share."""
    shared = {"criteria", "jsonl", "locks", "pauses", "proxies", "terminal"}
    modules = {path.stem for path in PACKAGE.glob("[!_]*.py")}
    assert modules <= {"scoring", "cli"} | shared


def imported_by(path: Path) -> set[str]:
    """List the top-level packages that a module imports."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    named = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in plain | named}


def test_one_module_knows_the_http_library() -> None:
    """Exchanging the library is a change to one file."""
    knowing = {path.stem for path in PACKAGE.glob("*.py") if "httpx" in imported_by(path)}
    assert knowing == {"_http"}


def test_the_client_needs_nothing_of_the_server() -> None:
    """A trainer installs the client alone."""
    imported = set().union(*map(imported_by, PACKAGE.rglob("*.py")))
    assert not imported & {"medreward", "pydantic", "fastapi"}


def needed_by(distribution: str) -> set[str]:
    """List what pip installs for a distribution, without extras, itself included."""
    needed, open_ = set(), {distribution}
    while open_:
        name = open_.pop()
        needed.add(name)
        requirements = [Requirement(text) for text in metadata.requires(name) or ()]
        plain = [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
        open_ |= {canonicalize_name(r.name) for r in plain} - needed
    return needed


def test_the_client_installs_little() -> None:
    """A trainer's environment is crowded enough."""
    assert len(needed_by("medreward-client")) <= 9


def test_the_types_are_there_for_type_checkers() -> None:
    """The package carries its annotations."""
    assert (PACKAGE / "py.typed").is_file()
