"""What the documentation says is what the code does."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from medreward.recipes.recipe import load_recipes, read_recipe

ROOT = Path(__file__).parents[1]
CLIENTS = ROOT / "clients"
PARSED = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


def test_the_settings_page_lists_the_settings() -> None:
    """docs/settings.md is what `make docs` writes."""
    script = ROOT / "docs" / "make_settings.py"
    written = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, script], check=True, capture_output=True, text=True
    )

    assert written.stdout == (ROOT / "docs" / "settings.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("section", "name"),
    [("## Your own recipe", "think-and-answer"), ("## `group_rank`", "right-then-better")],
)
def test_the_example_recipes_of_the_documentation_are_some(section: str, name: str) -> None:
    """What a reader copies from docs/recipes.md loads."""
    page = (ROOT / "docs" / "recipes.md").read_text("utf-8").split(f"{section}\n")[1]
    example = page.split("```toml\n")[1].split("```")[0]

    assert read_recipe(example, source="docs/recipes.md").name == name


def test_the_readme_is_short() -> None:
    """A newcomer reads it whole."""
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 110


@pytest.mark.parametrize("page", ["README.md", "SECURITY.md", "examples/README.md"])
def test_the_notice_stands_where_users_look(page: str) -> None:
    """Rewards and grades are for research and training."""
    assert "not for clinical use" in (ROOT / page).read_text("utf-8")


def test_links_lead_somewhere() -> None:
    """Every relative link of a page is a file."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "helm").rglob("*.md")]
    broken = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in pages
        for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text("utf-8"))
        if not (page.parent / link).exists()
    ]

    assert broken == []


def test_examples_are_whole() -> None:
    """What a reader copies can be parsed."""
    parse: dict[str, Callable[[str], object]] = {
        "python": lambda text: compile(text, "page", "exec", PARSED),
        "json": json.loads,
        "toml": tomllib.loads,
        "yaml": yaml.safe_load,
    }
    broken = []
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *CLIENTS.rglob("README.md")]:
        for block in re.finditer(
            r"^```(\w+)\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE
        ):
            try:
                parse.get(block[1], str)(block[2])
            except (SyntaxError, ValueError, yaml.YAMLError) as exc:
                broken.append(f"{page.relative_to(ROOT)}: {block[1]}: {exc}")

    assert broken == []


def test_the_copies_of_a_module_are_equal() -> None:
    """Client and service import nothing of each other, and both cut decoded responses alike."""
    served = ROOT / "service" / "medreward" / "http" / "compat" / "texts.py"
    copied = CLIENTS / "python" / "medreward_client" / "trainers" / "_texts.py"

    assert served.read_text("utf-8") == copied.read_text("utf-8")


def test_every_shipped_recipe_is_documented() -> None:
    """docs/recipes.md has a section for each."""
    page = (ROOT / "docs" / "recipes.md").read_text("utf-8")

    assert [name for name in load_recipes() if f"## `{name}`" not in page] == []
