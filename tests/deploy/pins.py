"""Asks the package indexes whether everything that is pinned can still be had, and installs nothing.

What each Dockerfile installs, and what each of the five distributions asks for with all its extras,
is resolved by uv for the Python that it runs on. A version that nobody has is refused, and so are
requirements that contradict each other. First a version is asked for that was never released: if
that one is found, the answers are worth nothing.

What could not be asked is listed by itself: an index that this machine does not reach, and images.
The exit code is 1 if something was refused, or if nothing could be asked.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
DISTRIBUTIONS = (".", "clients/python", "clients/evaluation", "clients/trainer", "service/verifier")
PLATFORM = "x86_64-manylinux_2_28"
OLDEST_PYTHON = "3.11"
VLLM_PYTHON = "3.12"
"""The Python of vLLM's image."""
INVENTED = "orjson==9999.0"
TIMEOUT_S = 60
UNREACHED = "Failed to fetch"
"""What uv says of an index that it does not reach."""
COLUMN = 40

Answer = Literal["resolved", "refused", "not asked"]


@dataclass(frozen=True)
class Question:
    """Requirements that have to be resolved together."""

    name: str
    requirements: str = ""
    """Lines of their own, beside what files ask for."""
    files: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    python: str = OLDEST_PYTHON
    index: str = ""
    """The index to ask alone; by default that of this machine."""

    def ask(self) -> tuple[Answer, str]:
        """Resolve it; gives what came of it, and why."""
        index = ("--default-index", self.index) if self.index else ()
        try:
            ran = subprocess.run(  # noqa: S603 - uv, of this environment
                [
                    *(str(UV), "pip", "compile", "--quiet", "--no-header", "--no-annotate"),
                    *("--python-version", self.python, "--python-platform", PLATFORM),
                    *index,
                    *self.options,
                    *self.files,
                    "-",
                ],
                cwd=ROOT,
                input=self.requirements,
                env={**os.environ, "UV_HTTP_TIMEOUT": "20", "UV_HTTP_RETRIES": "1"},
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "not asked", f"no answer in {TIMEOUT_S} s"
        lines = [line.strip() for line in ran.stderr.splitlines() if line.strip()]
        if ran.returncode == 0:
            count = len(re.findall(r"^\S+==", ran.stdout, re.MULTILINE))
            return "resolved", f"{count} packages"
        reason = " ".join(lines[:2])
        return ("not asked" if UNREACHED in ran.stderr else "refused"), reason


def dockerfiles() -> list[Path]:
    """Every Dockerfile of the repository."""
    return sorted((ROOT / "deploy").glob("*.Dockerfile"))


def of_dockerfile(path: Path) -> Iterator[Question]:
    """What a Dockerfile installs: its locked requirements, torch from its index, or vLLM of its base."""
    text = path.read_text("utf-8")
    arguments = dict(re.findall(r"^ARG ([A-Z_]+)=(\S+)", text, re.MULTILINE))
    torch = f"torch=={arguments['TORCH']}" if "TORCH" in arguments else ""
    locked = tuple(re.findall(r"^COPY (deploy/requirements/\S+)", text, re.MULTILINE))
    if locked:
        yield Question(path.name, requirements=torch, files=locked)
    if torch:
        name = f"{path.name}: torch"
        yield Question(name, torch, options=("--no-deps",), index=arguments["TORCH_INDEX"])
    if vllm := re.fullmatch(r"vllm/vllm-openai:v(.+)", arguments["BASE"]):
        (extra,) = re.findall(r"'\.\[(\w+)\]'", text)
        yield Question(
            path.name,
            requirements=f"vllm=={vllm[1]}",
            files=("pyproject.toml",),
            options=("--extra", extra),
            python=VLLM_PYTHON,
        )


def questions() -> list[Question]:
    """Everything there is to ask."""
    packages = [
        Question(
            f"{folder}/pyproject.toml",
            files=(f"{folder}/pyproject.toml",),
            options=("--all-extras",),
        )
        for folder in DISTRIBUTIONS
    ]
    return [*(q for path in dockerfiles() for q in of_dockerfile(path)), *packages]


def images() -> list[str]:
    """The images that Dockerfiles and Compose begin with; a registry is not asked here."""
    bases = [
        base
        for path in dockerfiles()
        for base in re.findall(r"^ARG BASE=(\S+)", path.read_text("utf-8"), re.MULTILINE)
    ]
    compose = (ROOT / "docker-compose.yml").read_text("utf-8")
    others = re.findall(r"image: \$\{\w+:-((?!medreward)[^}]+)\}", compose)
    return sorted({*bases, *others})


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """Ask everything, and print the answers; 1 if something was refused, or nothing could be asked."""
    answer, why = Question("invented", INVENTED, options=("--no-deps",)).ask()
    say(f"{'invented version':{COLUMN}} {answer}: {why}")
    if answer != "refused":
        say(f"{INVENTED} was not refused, so the other answers would say nothing")
        return 1
    answers = [(question, *question.ask()) for question in questions()]
    for question, answer, why in answers:
        if answer != "not asked":
            say(f"{question.name:{COLUMN}} {answer}: {why}")
    say("\nnot asked")
    for question, answer, why in answers:
        if answer == "not asked":
            say(f"{question.name:{COLUMN}} {why}")
    for image in images():
        say(f"{image:{COLUMN}} an image: no registry is asked")
    return int(any(answer == "refused" for _, answer, _ in answers))


if __name__ == "__main__":
    sys.exit(main())
