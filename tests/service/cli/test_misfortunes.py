"""What befalls the commands of `medreward`, each told in words: no traceback reaches a user."""

import os
import pwd
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.service.cli.conftest import NO_MODELS, PROGRAM, Run
from tests.support.misfortunes import (
    CLOSED_PORT,
    FILES,
    PROXIES,
    URLS,
    assert_told,
    files_of_at_most,
    with_streams,
    wrong_file,
    wrong_server,
)

SAMPLE = '{"response": "left lung", "reference": "left lung"}\n'
LABEL = '{"answer": "left lung", "reference": "left lung", "equivalent": true}\n'
READERS = {
    "score": ["score", "FILE", "--url", CLOSED_PORT],
    "judge": ["judge", "FILE", "--url", CLOSED_PORT],
    "calibrate": ["calibrate", "FILE", "--url", CLOSED_PORT],
    "explain": ["explain", "FILE", "--line", "1", "--url", CLOSED_PORT],
    "check": ["check", "FILE", "--no-load"],
}
ASKING = {
    "score": ["score", "sample.jsonl"],
    "judge": ["judge", "item.jsonl"],
    "calibrate": ["calibrate", "label.jsonl"],
    "explain": ["explain", "sample.jsonl", "--line", "1"],
}
WRITERS = {
    "score": ["score", "sample.jsonl", "--out", "FILE"],
    "judge": ["judge", "item.jsonl", "--out", "FILE"],
    "calibrate": ["calibrate", "label.jsonl", "--out", "FILE"],
    "audit": ["audit", "--limit", "1", "--out", "FILE"],
    "audit as JSON": ["audit", "--limit", "1", "--json", "FILE"],
}
HARMLESS = {"bracket", "network in NO_PROXY"}
"""Proxies and exceptions that this program reads as they are meant, or has no use for."""
VARIABLES: Mapping[str, tuple[str, str]] = {
    "a port that is none": ("MEDREWARD_PORT", "http"),
    "a port with a carriage return in it": ("MEDREWARD_PORT", "80\r80"),
    "an unknown profile": ("MEDREWARD_PROFILE", "big"),
    "a profile with a carriage return": ("MEDREWARD_PROFILE", "embedded-small\r"),
    "a role with a carriage return": ("MEDREWARD_ROLE", "api\r"),
    "a number that is none": ("MEDREWARD_JUDGEMENT_CACHE_BYTES", "256 MB"),
    "an unknown level": ("MEDREWARD_LOG_LEVEL", "loud"),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with right files, in which commands run, and engines that need no models."""
    monkeypatch.chdir(tmp_path)
    for name, value in NO_MODELS.items():
        monkeypatch.setenv(name, value)
    Path("sample.jsonl").write_text(SAMPLE)
    Path("item.jsonl").write_text('{"answer": "left lung", "reference": "left lung"}\n')
    Path("label.jsonl").write_text(LABEL)
    return tmp_path


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Something else than a service."""
    with wrong_server() as url:
        yield url


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("command", READERS)
def test_a_file_that_cannot_be_read_is_told(
    command: str, kind: str, run: Run, folder: Path
) -> None:
    """By its name, before anything is sent; nothing of it is shown."""
    path = wrong_file(folder, kind)
    told = run(*(path if part == "FILE" else part for part in READERS[command]))

    assert_told("medreward", told.code, told.stderr, names=path)
    assert "Ménière" not in told.stdout + told.stderr
    assert "left lo" not in told.stdout + told.stderr


@pytest.mark.parametrize("wrong", URLS)
@pytest.mark.parametrize("command", ASKING)
def test_an_address_that_is_wrong_is_told(command: str, wrong: str, run: Run, server: str) -> None:
    """With the option that names it."""
    told = run(*ASKING[command], "--url", URLS[wrong].format(server=server))

    assert_told("medreward", told.code, told.stderr, names="--url")


@pytest.mark.parametrize("wrong", sorted(PROXIES.keys() - HARMLESS))
def test_a_proxy_that_cannot_be_used_is_told(
    wrong: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the variable that names it."""
    for name, value in PROXIES[wrong].items():
        monkeypatch.setenv(name, value)
    told = run(*ASKING["score"], "--url", CLOSED_PORT)

    (variable,) = PROXIES[wrong]
    assert_told("medreward", told.code, told.stderr, names=variable)


@pytest.mark.parametrize("kind", ["folder", "in a file", "name too long"])
@pytest.mark.parametrize("command", WRITERS)
def test_a_file_that_cannot_be_made_is_told(
    command: str, kind: str, run: Run, folder: Path
) -> None:
    """Before anything is sent, whose answers would be lost."""
    path = wrong_file(folder, kind)
    parts = (path if part == "FILE" else part for part in WRITERS[command])
    told = run(*parts, "--url", CLOSED_PORT)

    assert_told("medreward", told.code, told.stderr)
    assert str(path.parent) in told.stderr


def test_a_full_disk_is_told(run: Run, folder: Path) -> None:
    """By the file that it was to hold."""
    out = folder / "out.jsonl"
    with files_of_at_most(16):
        told = run("score", "sample.jsonl", "--out", out)

    assert_told("medreward", told.code, told.stderr, names=out)
    assert "File too large" in told.stderr


@pytest.mark.parametrize("wrong", VARIABLES)
@pytest.mark.parametrize("command", ["serve", "recipes", "check", "cache", "score", "models"])
def test_a_variable_that_is_wrong_is_told(
    command: str, wrong: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name, whichever command reads the settings."""
    variable, value = VARIABLES[wrong]
    monkeypatch.setenv(variable, value)
    more = {
        "check": ["--no-load"],
        "cache": ["stats"],
        "score": ["sample.jsonl"],
        "models": ["list"],
    }
    told = run(command, *more.get(command, []))

    assert_told("medreward", told.code, told.stderr)
    assert variable in told.stdout + told.stderr


def test_a_key_of_other_letters_is_told_without_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the name of its variable."""
    monkeypatch.setenv("MEDREWARD_KEY", "schlüssel")
    told = run(*ASKING["score"], "--url", CLOSED_PORT)

    assert_told("medreward", told.code, told.stderr, names="MEDREWARD_KEY")
    assert "schlüssel" not in told.stderr


def test_without_a_home_the_variable_to_set_is_told(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container may run as a user whom the system does not know, and without HOME."""

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME", "MEDREWARD_MODELS_DIR"):
        monkeypatch.delenv(name, raising=False)
    told = run("recipes")

    assert_told("medreward", told.code, told.stderr, names="MEDREWARD_MODELS_DIR")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["pack", "measure", "train"])
@pytest.mark.xdist_group("models")
def test_a_folder_without_a_model_is_told(command: str, run: Run, folder: Path) -> None:
    """Before the terms are read, which takes longer."""
    empty = folder / "empty"
    empty.mkdir()
    given = ["--base", empty, "--out", folder / "out"] if command == "train" else [empty]
    told = run("verifier", command, *given)

    assert_told("medreward", told.code, told.stderr, names=empty)


@pytest.mark.slow
@pytest.mark.xdist_group("models")
def test_a_folder_with_a_damaged_model_is_told(run: Run, folder: Path) -> None:
    """Whatever the libraries make of it."""
    damaged = folder / "damaged"
    damaged.mkdir()
    (damaged / "config.json").write_text('{"model_type": "bert", ')
    told = run("verifier", "measure", damaged)

    assert_told("medreward", told.code, told.stderr, names=damaged)


@pytest.mark.parametrize("asked", ["recipes", "--help"])
@pytest.mark.parametrize(
    ("stdout", "words"),
    [
        ("closed", ["medreward: standard output cannot be written: Bad file descriptor"]),
        ("full", ["medreward: standard output cannot be written: No space left on device"]),
        ("unread", []),
    ],
)
def test_a_result_that_nobody_can_have_is_told(asked: str, stdout: str, words: list[str]) -> None:
    """And makes the command fail; a reader that has had enough needs no words."""
    done = with_streams([*PROGRAM, asked], stdout=stdout, environment=dict(os.environ))

    assert done.returncode == 1
    assert done.stderr.splitlines() == words
