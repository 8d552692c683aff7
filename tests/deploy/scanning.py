"""Runs checkov over the chart, with each file of example values, and over the Dockerfiles."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.deploy.helm.conftest import CHART, EVERY_VALUES, run_helm
from tests.deploy.tools import HELMS

ROOT = Path(__file__).parents[2]
BASE_BY_ARGUMENT = "CKV_DOCKER_7"
"""It wants a tag where a base is named by an argument, whose default has one."""


def scan(checkov: str, *arguments: str) -> tuple[int, list[str]]:
    """Give how many checks passed, and the ids of those that did not."""
    ran = subprocess.run(  # noqa: S603 - checkov, as pinned
        [checkov, *arguments, "-o", "json", "--skip-download"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    told = json.loads(ran.stdout)
    return told["summary"]["passed"], [c["check_id"] for c in told["results"]["failed_checks"]]


def main(checkov: str) -> int:
    """Print a table; 1 where anything failed."""
    table = Table("what", "passed", "failed")
    has_failed = False
    with tempfile.TemporaryDirectory() as folder:
        for values in EVERY_VALUES:
            options = ["--values", str(CHART / "ci" / values)] if values else []
            made = run_helm(next(iter(HELMS)), "template", "t", str(CHART), *options)
            file = Path(folder) / "rendered.yaml"
            file.write_text(made.stdout, "utf-8")
            config = str(ROOT / "helm" / "checkov.yaml")
            passed, failed = scan(checkov, "--config-file", config, "-f", str(file))
            has_failed |= bool(failed)
            table.add_row(f"chart {values or 'defaults'}", str(passed), ", ".join(failed))
    for dockerfile in sorted((ROOT / "deploy").glob("*.Dockerfile")):
        skipped = ("--skip-check", BASE_BY_ARGUMENT)
        passed, failed = scan(checkov, "--framework", "dockerfile", *skipped, "-f", str(dockerfile))
        has_failed |= bool(failed)
        table.add_row(dockerfile.name, str(passed), ", ".join(failed))
    Console().print(table)
    return int(has_failed)


if __name__ == "__main__":
    sys.exit(main(str(Path(sys.argv[1]).absolute())))
