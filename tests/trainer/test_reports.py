"""A run's files and its output in the terminal."""

import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]  # it has none
    EventAccumulator,
)

from medreward_trainer.run.reports import (
    METRICS,
    ROLLOUTS,
    RolloutRecord,
    RunLog,
    read_lines,
    summary,
)

RECORD = RolloutRecord(
    uid="a.jsonl:1",
    question="Which organ makes insulin?",
    response="<OTHER><thinking>It lies behind.</thinking><answer>pancreas</answer>",
    reference="pancreas",
    modality="OTHER",
    reward=None,
    components={"format": 1.0},
    error="judge_timeout",
)


def log_steps(folder: Path, *steps: int, resumed_step: int | None = None) -> None:
    """Log training steps in a new or resumed process."""
    with RunLog(folder, ["file"], total_steps=9, resumed_step=resumed_step) as log:
        for step in steps:
            log.write("train", step, {"reward/mean": 0.5}, [RECORD])


def logged(folder: Path, name: str = METRICS) -> list[tuple[str, int]]:
    """Return kind and step of each line of a log."""
    return [(line["kind"], line["step"]) for line in read_lines(folder / name)]


def test_a_line_says_what_it_is_of_and_when_it_was_written(tmp_path: Path) -> None:
    """It is in the file before the run ends, so it survives a killed process."""
    with RunLog(tmp_path, ["file"], total_steps=9) as log:
        log.write("train", 1, {"reward/mean": 0.5}, [RECORD])

        (line,) = read_lines(tmp_path / METRICS)
        (rollout,) = read_lines(tmp_path / ROLLOUTS)
    assert datetime.fromisoformat(line.pop("time")).utcoffset() is not None
    assert line == {"kind": "train", "step": 1, "reward/mean": 0.5}
    # A sample without a reward has null and the error's kind, not a zero.
    assert rollout == {"kind": "train", "step": 1, **asdict(RECORD)}
    assert (rollout["reward"], rollout["error"]) == (None, "judge_timeout")


def test_a_resumed_run_has_each_step_once(tmp_path: Path) -> None:
    """Lines after the resumed step belong to lost work; a new run begins with empty logs."""
    log_steps(tmp_path, 1, 2, 3, 4, 5, 6)
    log_steps(tmp_path, 1, 2, 3, 4)
    log_steps(tmp_path, 3, 4, 5, resumed_step=2)

    expected = [("train", step) for step in range(1, 6)]
    assert logged(tmp_path) == logged(tmp_path, ROLLOUTS) == expected


def test_a_resumed_run_keeps_its_warm_up(tmp_path: Path) -> None:
    """Supervised steps come before all training steps, whatever their number."""
    with RunLog(tmp_path, ["file"], total_steps=9) as log:
        for step in (1, 2, 3):
            log.write("warm_up", step, {"warm_up/loss": 2.0})
        log.write("val", 0, {"val/accuracy": 0.1})
        log.write("train", 1, {})
    log_steps(tmp_path, resumed_step=0)

    assert logged(tmp_path) == [("warm_up", 1), ("warm_up", 2), ("warm_up", 3), ("val", 0)]


@pytest.mark.parametrize("torn", ['{"kind": "train", "st', '{"kind": "tr\xe9', "{", ""])
def test_a_line_that_was_cut_off_is_mended(tmp_path: Path, torn: str) -> None:
    """An incomplete last line is dropped, even if it ends within a character."""
    log_steps(tmp_path, 1)
    with (tmp_path / METRICS).open("ab") as file:
        file.write(torn.encode()[: len(torn)])
    log_steps(tmp_path, 2, resumed_step=1)

    assert logged(tmp_path) == [("train", 1), ("train", 2)]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_whatever_a_response_holds_it_stays_one_line(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    """Unicode line separators are read back unchanged."""
    path = tmp_path_factory.mktemp("run") / ROLLOUTS
    lines: list[dict[str, Any]] = [{"response": text}, {"response": "next"}]
    path.write_text(
        "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in lines), encoding="utf-8"
    )

    assert read_lines(path) == lines


def test_tensorboard_gets_the_curves(tmp_path: Path) -> None:
    """A resumed run's curve has each step once, too."""
    for steps, resumed in (((1, 2, 3), None), ((3, 4), 2)):
        with RunLog(tmp_path, ["tensorboard"], total_steps=4, resumed_step=resumed) as log:
            for step in steps:
                log.write("train", step, {"reward/mean": step / 10})

    curves = EventAccumulator(str(tmp_path / "tensorboard"))
    curves.Reload()
    points = [(event.step, round(event.value, 3)) for event in curves.Scalars("reward/mean")]
    assert points == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]
    assert not (tmp_path / METRICS).exists()


def test_without_a_terminal_a_step_is_one_plain_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file gets no bar and no colours; standard output stays empty."""
    with RunLog(tmp_path, ["console"], total_steps=9) as log:
        log.stage("rollouts", 1, 4)
        log.write("train", 2, {"reward/mean": 0.25, "timing_s/step": 12.0})

    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.split() == ["step", "2/9", "reward", "0.25", "s", "12"]


def test_messages_are_shown_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A message may contain square brackets, and exceed the terminal's width."""
    message = "asking again in 8 s [red]not markup[/red] " + "long " * 60
    with RunLog(tmp_path, ["console"], total_steps=9) as log:
        log.say(message)
        log.caution("fewer groups")

    assert capsys.readouterr().err.splitlines() == [message, "warning: fewer groups"]


def test_a_process_that_is_not_the_first_is_silent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without loggers nothing is written anywhere."""
    with RunLog(tmp_path / "run", [], total_steps=9) as log:
        log.stage("rollouts", 1, 4)
        log.write("train", 1, {"reward/mean": 1.0}, [RECORD])
        log.caution("fewer groups")

    assert capsys.readouterr() == ("", "")
    assert not (tmp_path / "run").exists()


def test_a_summary_names_what_a_person_looks_for() -> None:
    """Missing metrics and those for curves only are left out."""
    line = summary(
        "train", 3, 60, {"reward/mean": 0.5, "unscored/share": 0.1, "prompt_length/mean": 9}
    )

    assert line.split("  ")[-2:] == ["reward 0.5", "unscored 0.1"]
    assert line.startswith("step 3/60")
    assert summary("val", 3, 60, {"val/accuracy": 0.75}).split() == ["val", "3", "accuracy", "0.75"]
