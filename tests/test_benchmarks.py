"""The benchmarks run: what they say is looked at by people."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from medreward.audit.answers import labelled_answers

ROOT = Path(__file__).parent.parent
MORE = ["client_cpu.py", "cold.py", "grading.py", "judge_calls.py", "single_calls.py"]


@pytest.mark.parametrize(
    "script",
    [
        "warm.py",
        *(pytest.param(script, marks=pytest.mark.slow) for script in MORE),
        pytest.param("medix_way.py", marks=[pytest.mark.slow, pytest.mark.models]),
    ],
)
def test_a_benchmark_runs(script: str) -> None:
    """A quick run ends well: ours and the baselines start, and give the same rewards."""
    ran = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, ROOT / "benchmarks" / script, "--quick"],
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr


def test_labelled_answers_are_measured() -> None:
    """The development set is judged by the rules alone, and its testing half is not shown."""
    ran = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, ROOT / "benchmarks" / "answers.py", "--by", "split", "--show"],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )

    shown = re.findall("^(?:right|wrong) as .*", ran.stdout, re.MULTILINE)
    tuning = {json.dumps(row.answer, ensure_ascii=False) for row in labelled_answers("tuning")}
    assert "testing" in ran.stdout
    assert [line for line in shown if not any(map(line.endswith, tuning))] == []
