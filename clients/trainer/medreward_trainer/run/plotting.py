"""Charts of runs."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from medreward_trainer.errors import BadData
from medreward_trainer.run.reports import METRICS, read_lines

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""The palette of Okabe and Ito, which stays distinct under all kinds of colour blindness."""
STYLES = ("-", "--", ":", "-.")
HELD_OUT = (("val/accuracy", "o", "accuracy"), ("val/reward/mean", "s", "reward"))
STAGES = ("gen", "old_log_prob", "ref", "reward_wait", "update_actor")
COLUMNS, PANEL_INCHES, DPI = 2, (7.0, 3.4), 115
GREY = "#444444"
FEW = 12
"""Number of steps up to which each is marked; a run of one step would show no line."""


@dataclass(frozen=True, slots=True)
class RunLines:
    """A run's name, and the lines of its log by kind."""

    name: str
    lines: Mapping[str, Sequence[Mapping[str, Any]]]

    def points(
        self, metric: str, kind: str = "train", *, smooth: int = 1, absent: float | None = None
    ) -> tuple[list[float], list[float]]:
        """Return the steps that logged a metric, and its running mean over *smooth* of them.

        With *absent*, all steps are returned, and this stands for a metric that is not logged.
        """
        found = [line for line in self.lines[kind] if absent is not None or metric in line]
        values = [line.get(metric, absent) for line in found]
        return [line["step"] for line in found], running_mean(values, smooth)


def plot_runs(runs: Sequence[Path], out: Path, *, smooth: int = 1) -> None:
    """Draw runs into one PNG; `smooth` is the window of a running mean, in steps.

    Raises:
        BadData: a folder holds no log, or the picture cannot be written.
    """
    read = [read_run(run, name) for run, name in zip(runs, names_of(runs), strict=True)]
    rows = -(-len(PANELS) // COLUMNS)
    width, height = PANEL_INCHES
    figure = Figure(figsize=(width * COLUMNS, height * rows), layout="constrained", dpi=DPI)
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, COLUMNS, squeeze=False).flat
    for (title, draw), panel in zip(PANELS.items(), axes, strict=False):
        draw(panel, read, smooth)
        finish(panel, title, read)
    if len(read) == 1:
        figure.suptitle(read[0].name)
    else:
        lines = [Line2D([], [], color=color_of(number), lw=3) for number in range(len(read))]
        names = [run.name for run in read]
        figure.legend(lines, names, loc="outside upper center", ncols=min(len(read), 4))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, format=out.suffix.removeprefix(".") or "png")
    except (OSError, ValueError) as exc:  # ValueError: of a format that it does not know
        raise BadData(f"{out} cannot be written: {exc}") from exc


def color_of(number: int) -> str:
    """Return the colour of a run."""
    return COLORS[number % len(COLORS)]


def names_of(runs: Sequence[Path]) -> list[str]:
    """Return the folders' names, with the folder above if two are equal."""
    paths = [run.resolve() for run in runs]
    short = [path.name for path in paths]
    if len(set(short)) == len(short):
        return short
    return ["/".join(path.parts[-2:]) for path in paths]


def read_run(folder: Path, name: str) -> RunLines:
    """Read a run's log.

    Raises:
        BadData: the folder has none.
    """
    lines = read_lines(folder / METRICS)
    if not lines:
        raise BadData(f"{folder} holds no {METRICS}; give the folder of a run")
    kinds = {
        kind: [one for one in lines if one["kind"] == kind] for kind in ("warm_up", "train", "val")
    }
    return RunLines(name, kinds)


def running_mean(values: Sequence[float], over: int) -> list[float]:
    """Return the mean of each value and those before it, *over* of them at most."""
    return [
        sum(values[max(0, i + 1 - over) : i + 1]) / min(i + 1, over) for i in range(len(values))
    ]


def finish(panel: Axes, title: str, runs: Sequence[RunLines]) -> None:
    """Add a title and a legend, and mark the supervised steps."""
    panel.set_title(title, loc="left", fontsize=10)
    panel.set_xlabel("step")
    panel.grid(alpha=0.3)
    warmed_up = max(len(run.lines["warm_up"]) for run in runs)
    if warmed_up:
        panel.axvspan(-warmed_up, 0, color="#999999", alpha=0.25, lw=0)
        panel.axvline(0, color="#555555", lw=0.8, ls=":")
        panel.annotate(
            f"supervised warm-up, {warmed_up} steps", (0, 0.02), (-3, 0), fontsize=7,
            xycoords=("data", "axes fraction"), textcoords="offset points", color="#333333",
            rotation=90, ha="right", va="bottom",
        )  # fmt: skip
    handles, labels = panel.get_legend_handles_labels()
    # With several runs the colour identifies the run, and one legend above the panels is enough.
    once = dict(zip(labels, handles, strict=True))
    if once:
        legend = panel.legend(
            once.values(), once, fontsize=7, framealpha=0.6, handlelength=3, loc="best"
        )
        for handle in legend.legend_handles if len(runs) > 1 else ():
            if isinstance(handle, Line2D):
                handle.set_color(GREY)
    else:
        panel.text(0.5, 0.5, "not logged", transform=panel.transAxes, ha="center", color="#555555")


def draw_curve(
    panel: Axes,
    points: tuple[list[float], list[float]],
    *,
    color: str,
    label: str,
    style: str = "-",
) -> None:
    """Draw a curve if it has points; mark them if they are few."""
    if points[0]:
        marker = "." if len(points[0]) <= FEW else ""
        panel.plot(*points, style, color=color, label=label, marker=marker)


def draw_reward(panel: Axes, runs: Sequence[RunLines], smooth: int) -> None:
    """Draw the mean reward, the deviation within groups as a band, and validation as points."""
    for number, run in enumerate(runs):
        steps, mean = run.points("reward/mean", smooth=smooth)
        color = color_of(number)
        draw_curve(panel, (steps, mean), color=color, label="training, mean")
        _, spread = run.points("reward/group_std", smooth=smooth)
        if mean and len(spread) == len(mean):
            low = [m - s for m, s in zip(mean, spread, strict=True)]
            high = [m + s for m, s in zip(mean, spread, strict=True)]
            label = "± deviation within groups"
            panel.fill_between(steps, low, high, color=color, alpha=0.12, lw=0, label=label)
        for metric, marker, name in HELD_OUT:
            points = run.points(metric, "val")
            if points[0]:
                panel.plot(*points, marker, color=color, ms=5, label=f"held-out {name}")


def curve_of_each(
    pattern: str, *, absent: float | None = None
) -> Callable[[Axes, Sequence[RunLines], int], None]:
    """Return a function that draws each metric that fits a pattern, labelled by its first group.

    *absent* stands for a metric that a step has not logged. With one run each metric has its own
    colour; several runs differ in line style.
    """
    metric = re.compile(pattern)

    def draw(panel: Axes, runs: Sequence[RunLines], smooth: int) -> None:
        logged = {name for run in runs for line in run.lines["train"] for name in line}
        found = [match for name in sorted(logged) if (match := metric.fullmatch(name))]
        for number, run in enumerate(runs):
            for order, match in enumerate(found):
                draw_curve(
                    panel,
                    run.points(match[0], smooth=smooth, absent=absent),
                    color=color_of(number if len(runs) > 1 else order),
                    label=match[1],
                    style=STYLES[order % len(STYLES)] if len(runs) > 1 else "-",
                )

    return draw


def draw_stages(panel: Axes, runs: Sequence[RunLines], smooth: int) -> None:
    """Draw the seconds of each stage of the first run, stacked."""
    lines, prefix = runs[0].lines["train"], f"{runs[0].name}: " if len(runs) > 1 else ""
    steps = [line["step"] for line in lines]
    stages = {
        name: running_mean([line.get(f"timing_s/{name}", 0.0) for line in lines], smooth)
        for name in STAGES
        if any(f"timing_s/{name}" in line for line in lines)
    }
    if steps and stages:
        panel.stackplot(steps, *stages.values(), colors=COLORS, alpha=0.8,
                        labels=[prefix + name for name in stages])  # fmt: skip


def curves(*metrics: str) -> Callable[[Axes, Sequence[RunLines], int], None]:
    """Return a function that draws one curve for each run and metric."""

    def draw(panel: Axes, runs: Sequence[RunLines], smooth: int) -> None:
        for number, run in enumerate(runs):
            for style, metric in zip(STYLES, metrics, strict=False):
                points = run.points(metric, smooth=smooth)
                draw_curve(panel, points, color=color_of(number), label=metric, style=style)

    return draw


PANELS: Mapping[str, Callable[[Axes, Sequence[RunLines], int], None]] = {
    "reward": draw_reward,
    "signals, mean of the scored": curve_of_each(r"reward/(\w+)/mean"),
    "signals, share unscored": curve_of_each(r"reward/(\w+)/unscored_share"),
    "samples unscored, by reason": curve_of_each(r"unscored/(?!share$)(\w+)", absent=0.0),
    "criteria without a verdict, mean of a sample": curves("criteria/unanswered"),
    "response length, tokens": curves("response_length/mean", "response_length/max"),
    "shares: unscored, groups without variance, cut responses": curves(
        "unscored/share", "groups/zero_variance_share", "response_length/cut_share"
    ),
    "entropy, KL": curves("actor/entropy", "actor/kl_loss", "actor/ppo_kl"),
    "gradient norm": curves("actor/grad_norm"),
    "seconds a stage": draw_stages,
}
"""The panels of a picture, in order, with the functions that draw them."""
