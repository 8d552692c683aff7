"""Charts of runs, and messages if there is nothing to draw."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medreward_trainer.errors import BadData
from medreward_trainer.run.plotting import (
    PANELS,
    RunLines,
    curve_of_each,
    draw_reward,
    draw_stages,
    finish,
    names_of,
    plot_runs,
    read_run,
    running_mean,
)
from medreward_trainer.run.reports import METRICS, RunLog

PNG = b"\x89PNG\r\n\x1a\n"


def make_run(folder: Path, *, steps: int = 3, warm_up: int = 0, **metrics: float) -> Path:
    """Log a run whose metrics are the same in each step; `a__b` stands for `a/b`."""
    named = {name.replace("__", "/"): value for name, value in metrics.items()}
    with RunLog(folder, ["file"], total_steps=steps) as log:
        for step in range(1, warm_up + 1):
            log.write("warm_up", step, {"warm_up/loss": 2.0})
        for step in range(1, steps + 1):
            log.write("train", step, named)
        log.write("val", steps, {"val/accuracy": 0.5})
    return folder


def drawn(draw: Callable[[Axes, Sequence[RunLines], int], None], *runs: RunLines) -> Axes:
    """Draw runs into a panel of its own, with its title and legend."""
    panel: Axes = Figure().subplots()
    draw(panel, runs, 1)
    finish(panel, "title", runs)
    return panel


def lines_of(folder: Path, **made: Any) -> RunLines:
    """Log a run, and read it back."""
    return read_run(make_run(folder / "run", **made), "run")


def texts(axes: Axes) -> str:
    """Return the texts in a panel."""
    return "\n".join(one.get_text() for one in axes.texts)


def labels(axes: Axes) -> list[str]:
    """Return the names of its curves."""
    return axes.get_legend_handles_labels()[1]


def test_several_runs_become_one_picture(tmp_path: Path) -> None:
    """Runs of unlike lengths and metrics are drawn over each other, into a new folder."""
    one = make_run(tmp_path / "one", reward__mean=0.5, reward__format__mean=1.0)
    two = make_run(tmp_path / "two", steps=1, warm_up=2, actor__entropy=2.0)

    plot_runs([one, two], tmp_path / "new" / "runs.png", smooth=4)

    assert (tmp_path / "new" / "runs.png").read_bytes().startswith(PNG)


def test_a_run_that_has_not_finished_a_step_can_be_drawn(tmp_path: Path) -> None:
    """With a validation only, the other panels say that nothing was logged."""
    plot_runs([make_run(tmp_path / "run", steps=0)], tmp_path / "run.png")

    assert (tmp_path / "run.png").is_file()


def test_lines_that_are_torn_or_of_others_do_no_harm(tmp_path: Path) -> None:
    """A run can be drawn while its log is being written; unknown kinds are skipped."""
    run = make_run(tmp_path / "run", reward__mean=0.5)
    with (run / METRICS).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"kind": "other", "step": 9, "reward/mean": 9.0}) + "\n")
        file.write('{"kind": "train", "st')

    assert read_run(run, "run").points("reward/mean") == ([1, 2, 3], [0.5, 0.5, 0.5])


def test_a_folder_without_a_log_is_named(tmp_path: Path) -> None:
    """The message names the folder, and the kind of folder to give."""
    with pytest.raises(BadData, match=r"nowhere holds no metrics.jsonl; give the folder of a run"):
        plot_runs([tmp_path / "nowhere"], tmp_path / "run.png")


@pytest.mark.parametrize("name", ["run.docx", "folder"])
def test_a_picture_that_cannot_be_written_is_named(tmp_path: Path, name: str) -> None:
    """An unknown format and a folder of the same name become messages."""
    (tmp_path / "folder").mkdir()
    run = make_run(tmp_path / "run")

    with pytest.raises(BadData, match="cannot be written"):
        plot_runs([run], tmp_path / name)


def test_supervised_steps_are_said_openly(tmp_path: Path) -> None:
    """The warm-up is left of the first step in each panel, with its name."""
    run = lines_of(tmp_path, warm_up=3, reward__mean=0.5)
    for draw in PANELS.values():
        axes = drawn(draw, run)

        assert "supervised warm-up, 3 steps" in texts(axes)
        assert axes.get_xlim()[0] <= -3


def test_without_supervised_steps_nothing_is_said_of_them(tmp_path: Path) -> None:
    """A run that began with rollouts has no grey span."""
    assert texts(drawn(draw_reward, lines_of(tmp_path, reward__mean=0.5))) == ""


def test_what_was_not_logged_is_said(tmp_path: Path) -> None:
    """An empty panel has a text instead of being blank."""
    run = lines_of(tmp_path, reward__mean=0.5)

    assert texts(drawn(PANELS["signals, mean of the scored"], run)) == "not logged"


def test_the_reward_is_drawn_with_its_spread_and_held_out_accuracy(tmp_path: Path) -> None:
    """Training is a line with a band, validation is points."""
    run = lines_of(tmp_path, reward__mean=0.5, reward__group_std=0.1)

    assert labels(drawn(draw_reward, run)) == [
        "training, mean",
        "± deviation within groups",
        "held-out accuracy",
    ]


@pytest.mark.parametrize(
    ("panel", "expected"),
    [
        ("signals, mean of the scored", ["format", "mine"]),
        ("signals, share unscored", ["mine"]),
        ("samples unscored, by reason", ["judge_timeout"]),
    ],
)
def test_each_signal_and_each_reason_has_a_curve(
    tmp_path: Path, panel: str, expected: list[str]
) -> None:
    """All signals of the recipe are drawn, but not the composite; rewards may be below 0."""
    run = lines_of(
        tmp_path, reward__mean=-0.5, reward__format__mean=1.0, reward__mine__mean=-1.2,
        reward__mine__group_std=0.2, reward__mine__unscored_share=0.1,
        reward__mine__unscored__judge_timeout=3.0, unscored__share=0.1, unscored__judge_timeout=3.0,
    )  # fmt: skip

    assert labels(drawn(PANELS[panel], run)) == expected


def test_a_step_without_a_failure_has_none_of_its_kind(tmp_path: Path) -> None:
    """A kind is logged only if it occurs, and its curve goes down to 0 where it does not."""
    folder = tmp_path / "run"
    with RunLog(folder, ["file"], total_steps=3) as log:
        for step, metrics in enumerate([{}, {"unscored/deadline": 2.0}, {}], start=1):
            log.write("train", step, metrics)

    axes = drawn(PANELS["samples unscored, by reason"], read_run(folder, "run"))

    assert axes.lines[0].get_ydata().tolist() == [0.0, 2.0, 0.0]  # type: ignore[union-attr]  # an array


def test_the_curves_of_several_runs_differ_in_line_style(tmp_path: Path) -> None:
    """The colour identifies the run."""
    run = lines_of(tmp_path, reward__a__mean=1.0, reward__b__mean=0.5)

    axes = drawn(curve_of_each(r"reward/(\w+)/mean"), run, run)

    assert [line.get_linestyle() for line in axes.lines] == ["-", "--", "-", "--"]
    assert len({line.get_color() for line in axes.lines}) == 2


def test_seconds_are_those_of_the_stages_that_were_timed(tmp_path: Path) -> None:
    """With several runs, the first one is drawn, with its name."""
    run = lines_of(tmp_path, timing_s__gen=2.0, timing_s__step=3.0)

    assert labels(drawn(draw_stages, run)) == ["gen"]
    assert labels(drawn(draw_stages, run, run)) == ["run: gen"]


def test_a_run_of_one_step_can_be_seen(tmp_path: Path) -> None:
    """A single point makes no line, so it is marked."""
    axes = drawn(draw_reward, lines_of(tmp_path, steps=1, reward__mean=0.5))

    assert axes.lines[0].get_marker() == "."


def test_runs_in_folders_of_one_name_are_told_apart() -> None:
    """Their names then contain the folder above."""
    assert names_of([Path("a/run"), Path("b/run")]) == ["a/run", "b/run"]
    assert names_of([Path("a/run"), Path("a/other")]) == ["run", "other"]


@given(st.lists(st.floats(-1, 1), min_size=1), st.integers(1, 9))
def test_a_running_mean_looks_back_and_never_ahead(values: list[float], over: int) -> None:
    """Each value is the mean of the last few; a window of one changes nothing."""
    means = running_mean(values, over)

    assert running_mean(values, 1) == values
    assert len(means) == len(values)
    assert means[0] == values[0]
    assert running_mean([*values, 1.0], over)[:-1] == means
