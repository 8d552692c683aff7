"""Reports of a run: lines in files, curves in TensorBoard, progress in the terminal."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Kind = Literal["warm_up", "train", "val"]
METRICS, ROLLOUTS = "metrics.jsonl", "rollouts.jsonl"

SHOWN: Mapping[str, str] = {
    "reward/mean": "reward",
    "groups/zero_variance_share": "no variance",
    "unscored/share": "unscored",
    "response_length/mean": "tokens",
    "actor/kl_loss": "KL",
    "actor/entropy": "entropy",
    "actor/grad_norm": "gradient",
    "actor/lr": "lr",
    "timing_s/reward_wait": "wait s",
    "timing_s/step": "s",
    "warm_up/loss": "loss",
    "val/accuracy": "accuracy",
    "val/reward/mean": "reward",
    "val/unjudged": "unjudged",
}
"""Metrics that the terminal shows, with their labels there; signals of the recipe come behind them."""
SIGNAL = re.compile(r"(?:val/)?reward/(\w+)/mean")
"""Mean value of a signal, whatever the recipe has."""


@dataclass(frozen=True, slots=True)
class RolloutRecord:
    """A line of rollouts.jsonl, the only file of a run that contains texts."""

    uid: str
    question: str
    response: str
    reference: str | tuple[str, ...]
    modality: str | None
    reward: float | None
    components: dict[str, float]
    error: str | None
    unanswered: int | None = None


class RunLog:
    """Writes a run's metrics and rollouts to its folder, and its progress to the terminal.

    `loggers` contains any of console, file and tensorboard. Lines of steps after `resumed_step`
    belong to lost work and are removed, so that each step occurs once; None removes all lines.
    """

    def __init__(
        self,
        run_dir: Path,
        loggers: Sequence[str],
        *,
        total_steps: int,
        resumed_step: int | None = None,
    ) -> None:
        self._files = {}
        if "file" in loggers:
            run_dir.mkdir(parents=True, exist_ok=True)
            for name in (METRICS, ROLLOUTS):
                keep_until(run_dir / name, resumed_step)
                self._files[name] = (run_dir / name).open("a", encoding="utf-8")
        self._board: Any = None
        if "tensorboard" in loggers:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - takes seconds

            purge = 0 if resumed_step is None else resumed_step + 1
            self._board = SummaryWriter(run_dir / "tensorboard", purge_step=purge)
        self._console = Console(stderr=True, quiet="console" not in loggers, soft_wrap=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable="console" not in loggers or not self._console.is_terminal,
            transient=True,
        )
        self._steps = self._progress.add_task(
            "steps", total=total_steps, completed=resumed_step or 0
        )
        self._stage = self._progress.add_task("", total=None, visible=False)
        self._shown_stage = ""
        self._total = total_steps

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()
        for file in self._files.values():
            file.close()
        if self._board is not None:
            self._board.close()

    def write(
        self,
        kind: Kind,
        step: int,
        metrics: Mapping[str, float],
        rollouts: Sequence[RolloutRecord] = (),
    ) -> None:
        """Log a supervised step, a training step, or a validation after a step."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._line(METRICS, {"kind": kind, "step": step, "time": now, **metrics})
        for record in rollouts:
            self._line(ROLLOUTS, {"kind": kind, "step": step, **asdict(record)})
        if self._board is not None:
            for name, value in metrics.items():
                self._board.add_scalar(name, value, step)
            self._board.flush()
        self.say(summary(kind, step, self._total, metrics))
        if kind == "train":
            self._progress.update(self._steps, completed=step)
            self._progress.update(self._stage, visible=False)

    def stage(self, name: str, done: int, total: int) -> None:
        """Show the progress of the current stage of a step."""
        if name != self._shown_stage:
            # Otherwise the estimate of its end would use the speed of the previous stage.
            self._progress.reset(self._stage)
            self._shown_stage = name
        self._progress.update(
            self._stage, description=name, completed=done, total=total, visible=True
        )

    def say(self, message: str) -> None:
        """Print a message above the progress bar."""
        self._console.print(message, highlight=False, markup=False)

    def caution(self, message: str) -> None:
        """Print a warning above the progress bar."""
        self._console.print(f"warning: {message}", style="yellow", highlight=False, markup=False)

    def _line(self, name: str, line: Mapping[str, Any]) -> None:
        if file := self._files.get(name):
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()


def summary(kind: Kind, step: int, total: int, metrics: Mapping[str, float]) -> str:
    """Return the line of the terminal for one step."""
    where = {"warm_up": f"warm-up {step}", "train": f"step {step}/{total}", "val": f"val {step}"}
    signals = {name: found[1] for name in metrics if (found := SIGNAL.fullmatch(name))}
    words = {**SHOWN, **signals}
    shown = [f"{word} {metrics[name]:.3g}" for name, word in words.items() if name in metrics]
    return f"{where[kind]:<14} {'  '.join(shown)}"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a log, without a last line that is incomplete."""
    if not path.is_file():
        return []
    lines = []
    # An incomplete line may end within a character. Not `splitlines`, which also splits at other
    # separators, and a response may contain those.
    for text in path.read_bytes().decode(errors="replace").split("\n"):
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def keep_until(path: Path, step: int | None) -> None:
    """Remove the lines of later steps, or all lines if *step* is None.

    The file is replaced by a rename, so that a log is never incomplete.
    """
    # A warm-up comes before every step.
    kept = [
        one
        for one in read_lines(path)
        if step is not None and (one["kind"] == "warm_up" or one["step"] <= step)
    ]
    if path.is_file():
        fresh = path.with_suffix(".new")
        text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in kept)
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
