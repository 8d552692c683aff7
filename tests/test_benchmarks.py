"""The benchmarks run: what they say is looked at by people."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    "script",
    [
        "client_cpu.py",
        "cold.py",
        "rewards/grade.py",
        "judge_calls.py",
        pytest.param("medix_way.py", marks=pytest.mark.models),
        "single_calls.py",
        "warm.py",
    ],
)
def test_a_benchmark_runs(script: str) -> None:
    """A quick run ends well: ours and the baselines start, and give the same rewards."""
    ran = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, ROOT / "benchmarks" / script, "--quick"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
