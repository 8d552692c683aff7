"""Charts of runs, and messages if there is nothing to draw."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medreward_trainer.errors import BadData
from medreward_trainer.run.plotting import (
    PANELS,
    draw_components,
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


def panel() -> Axes:
    """An empty panel."""
    return Figure().subplots()


def texts(axes: Axes) -> str:
    """Return the texts in a panel."""
    return "\n".join(one.get_text() for one in axes.texts)


def labels(axes: Axes) -> list[str]:
    """Return the names of its curves."""
    return axes.get_legend_handles_labels()[1]


def test_a_run_becomes_a_picture(tmp_path: Path) -> None:
    """A PNG is written, and its folder is created if necessary."""
    run = make_run(tmp_path / "one", reward__mean=0.5, reward__group_std=0.1)

    plot_runs([run], tmp_path / "new" / "run.png")

    assert (tmp_path / "new" / "run.png").read_bytes().startswith(PNG)


def test_several_runs_become_one_picture(tmp_path: Path) -> None:
    """Runs of unlike lengths and metrics are drawn over each other."""
    one = make_run(tmp_path / "one", reward__mean=0.5, reward__format__mean=1.0)
    two = make_run(tmp_path / "two", steps=1, warm_up=2, actor__entropy=2.0)

    plot_runs([one, two], tmp_path / "runs.png", smooth=4)

    assert (tmp_path / "runs.png").read_bytes().startswith(PNG)


def test_a_run_that_has_not_finished_a_step_can_be_drawn(tmp_path: Path) -> None:
    """With a validation only, the other panels say that nothing was logged."""
    plot_runs([make_run(tmp_path / "run", steps=0)], tmp_path / "run.png")

    assert (tmp_path / "run.png").is_file()


def test_a_log_with_a_torn_end_can_be_drawn(tmp_path: Path) -> None:
    """A run can be drawn while its log is being written."""
    run = make_run(tmp_path / "run", reward__mean=0.5)
    with (run / METRICS).open("a", encoding="utf-8") as file:
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
    run = read_run(make_run(tmp_path / "run", warm_up=3, reward__mean=0.5), "run")
    for title, draw in PANELS.items():
        axes = panel()

        draw(axes, [run], 1)
        finish(axes, title, [run])

        assert "supervised warm-up, 3 steps" in texts(axes)
        assert axes.get_xlim()[0] <= -3


def test_without_supervised_steps_nothing_is_said_of_them(tmp_path: Path) -> None:
    """A run that began with rollouts has no grey span."""
    run = read_run(make_run(tmp_path / "run", reward__mean=0.5), "run")
    axes = panel()

    draw_reward(axes, [run], 1)
    finish(axes, "reward", [run])

    assert texts(axes) == ""


def test_what_was_not_logged_is_said(tmp_path: Path) -> None:
    """An empty panel has a text instead of being blank."""
    run = read_run(make_run(tmp_path / "run", reward__mean=0.5), "run")
    axes = panel()

    draw_components(axes, [run], 1)
    finish(axes, "components", [run])

    assert texts(axes) == "not logged"


def test_the_reward_is_drawn_with_its_spread_and_held_out_accuracy(tmp_path: Path) -> None:
    """Training is a line with a band, validation is points."""
    run = read_run(make_run(tmp_path / "run", reward__mean=0.5, reward__group_std=0.1), "run")
    axes = panel()

    draw_reward(axes, [run], 1)

    assert labels(axes) == ["training, mean", "± deviation within groups", "held-out accuracy"]


def test_each_component_has_a_curve(tmp_path: Path) -> None:
    """All components of the recipe are drawn, but not the composite."""
    run = make_run(
        tmp_path / "run", reward__mean=0.5, reward__format__mean=1.0, reward__mine__mean=0.2,
        reward__mine__group_std=0.2,
    )  # fmt: skip
    axes = panel()

    draw_components(axes, [read_run(run, "run")], 1)

    assert labels(axes) == ["format", "mine"]


def test_seconds_are_those_of_the_stages_that_were_timed(tmp_path: Path) -> None:
    """With several runs, the first one is drawn, with its name."""
    run = read_run(make_run(tmp_path / "run", timing_s__gen=2.0, timing_s__step=3.0), "run")
    alone, together = panel(), panel()

    draw_stages(alone, [run], 1)
    draw_stages(together, [run, run], 1)

    assert labels(alone) == ["gen"]
    assert labels(together) == ["run: gen"]


def test_a_run_of_one_step_can_be_seen(tmp_path: Path) -> None:
    """A single point makes no line, so it is marked."""
    run = read_run(make_run(tmp_path / "run", steps=1, reward__mean=0.5), "run")
    axes = panel()

    draw_reward(axes, [run], 1)

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


def test_metrics_of_others_do_no_harm(tmp_path: Path) -> None:
    """A line of an unknown kind is skipped."""
    run = make_run(tmp_path / "run", reward__mean=0.5)
    with (run / METRICS).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"kind": "other", "step": 9, "reward/mean": 9.0}) + "\n")

    assert max(read_run(run, "run").points("reward/mean")[0]) == 3
