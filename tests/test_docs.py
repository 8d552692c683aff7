"""What the documentation says is what the code does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from medreward.recipes.recipe import load_recipes, read_recipe

ROOT = Path(__file__).parents[1]


def test_the_settings_page_lists_the_settings() -> None:
    """docs/settings.md is what `make docs` writes."""
    script = ROOT / "docs" / "make_settings.py"
    written = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, script], check=True, capture_output=True, text=True
    )

    assert written.stdout == (ROOT / "docs" / "settings.md").read_text("utf-8")


def test_the_example_recipe_of_the_documentation_is_one() -> None:
    """What a reader copies from docs/recipes.md loads."""
    page = (ROOT / "docs" / "recipes.md").read_text("utf-8")
    example = page.split("```toml\n")[1].split("```")[0]

    assert read_recipe(example, source="docs/recipes.md").name == "think-and-answer"


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


def test_every_shipped_recipe_is_documented() -> None:
    """docs/recipes.md has a section for each."""
    page = (ROOT / "docs" / "recipes.md").read_text("utf-8")

    assert [name for name in load_recipes() if f"## `{name}`" not in page] == []
