"""The command `medreward-train`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from medreward_client.terminal import (
    FAILED,
    INTERRUPTED,
    MISUSED,
    command,
    ended,
    output,
    run_app,
    shown,
    tell,
    told_by_system,
)
from medreward_trainer.config.config import Config
from medreward_trainer.config.files import (
    changed_values,
    check_runnable,
    dump_config,
    load_config,
    recipe_names,
    recipe_purpose,
)
from medreward_trainer.errors import BadConfig, Stopped, TrainerError

PLAIN_WIDTH = 160
"""Columns of the output if it is not a terminal."""
EXIT_CODES = {BadConfig: MISUSED, Stopped: INTERRUPTED}
"""Exit codes of errors other than FAILED."""

app = command(
    "medreward-train",
    "Group-based RL for medical (vision-)language models, rewarded by a medreward service.",
)

Source = Annotated[
    str, typer.Argument(metavar="RECIPE|FILE", help="A recipe's name, or a YAML file.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE…", help="Keys to change, such as trainer.total_epochs=1."),
]


def main() -> None:
    """Run the subcommand of the command line."""
    run_app(app, "medreward-train")


@app.command()
def run(source: Source, overrides: Overrides = None) -> None:
    """Train a policy; the same command again goes on from the last checkpoint.

    [bold]Examples[/bold], beside a service that `medreward serve` started:

      medreward-train run smoke
      medreward-train run medix_2b_dapo reward.base_url=http://rewards:8080
      accelerate launch --num_processes 8 -m medreward_trainer run medix_2b_dapo

    Ctrl-C ends it in good order, with a checkpoint. Exit code 1: stopped by trouble, and the
    state is saved; 2: the configuration cannot be; 130: stopped by you.
    """
    with failing_in_words():
        config = load_config(source, overrides or ())
        from medreward_trainer.training import train  # noqa: PLC0415 - torch takes seconds

        train(config)


@app.command()
def plot(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Folders of runs.")],
    out: Annotated[Path, typer.Option(help="Where the picture goes.")] = Path("runs.png"),
    smooth: Annotated[int, typer.Option(min=1, help="Steps in a running mean.")] = 1,
) -> None:
    """Draw reward, components, lengths and times of one or several runs.

    [bold]Example[/bold]:

      medreward-train plot checkpoints/medreward/smoke --out smoke.png
    """
    with failing_in_words():
        from medreward_trainer.run.plotting import plot_runs  # noqa: PLC0415 - as is matplotlib

        plot_runs(runs, out, smooth=smooth)
        _print_written(out)


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A folder global_step_N of a run.")],
    folder: Annotated[Path, typer.Argument(help="Where the model goes.")],
    dtype: Annotated[
        Literal["bfloat16", "float32"], typer.Option(help="Of the weights that are written.")
    ] = "bfloat16",
) -> None:
    """Write a checkpoint's model as a plain Hugging Face folder, adapters merged.

    [bold]Example[/bold]:

      medreward-train export checkpoints/medreward/smoke/global_step_4 smoke-model
    """
    with failing_in_words():
        from medreward_trainer.run.checkpoints import export as write  # noqa: PLC0415 - as is torch

        write(checkpoint, folder, dtype)
        _print_written(folder)


@app.command()
def recipes() -> None:
    """List the recipes that come along.

    [bold]Example[/bold]:

      medreward-train recipes
    """
    table = Table(box=None, pad_edge=False)
    for column in ("recipe", "model", "algorithm", "what for"):
        # A name that is cut short cannot be copied.
        table.add_column(column, overflow="fold", no_wrap=column == "recipe")
    for name in recipe_names():
        config = load_config(name)
        table.add_row(
            name, config.actor_rollout_ref.model.path, algorithm_of(config), recipe_purpose(name)
        )
    output(plain_width=PLAIN_WIDTH).print(table)


@app.command()
def show(
    source: Source,
    overrides: Overrides = None,
    *,
    changed: Annotated[
        bool, typer.Option("--changed", help="Only what differs from the defaults.")
    ] = False,
) -> None:
    """Show a whole configuration, as a run would have it.

    [bold]Examples[/bold]:

      medreward-train show medix_8b_dapo --changed
      medreward-train show smoke trainer.total_training_steps=10 > mine.yaml
    """
    with failing_in_words():
        config = load_config(source, overrides or ())
        if changed:
            for key, value in changed_values(Config(), config).items():
                typer.echo(f"{key}={value}")
        else:
            typer.echo(dump_config(config), nl=False)


@app.command("verl-data")
def verl_data(
    source: Source,
    folder: Annotated[Path, typer.Argument(help="Where train.parquet and test.parquet go.")],
    overrides: Overrides = None,
) -> None:
    """Write the data of a configuration as verl wants it.

    [bold]Example[/bold]:

      medreward-train verl-data smoke verl-data
    """
    with failing_in_words():
        from medreward_trainer.data.verl_data import write_verl_data  # noqa: PLC0415 - as is pyarrow

        config = load_config(source, overrides or ())
        check_runnable(config)
        for path in write_verl_data(config, folder):
            _print_written(path)


def algorithm_of(config: Config) -> str:
    """Return a configuration's algorithm by the name that papers use."""
    actor = config.actor_rollout_ref.actor
    parts: list[str] = [config.algorithm.adv_estimator]
    if actor.policy_loss.loss_mode != "vanilla":
        parts.append(actor.policy_loss.loss_mode)
    if config.algorithm.filter_groups.enable:
        parts.append("filtered groups")
    if actor.use_kl_loss:
        parts.append("KL in the loss")
    if config.algorithm.use_kl_in_reward:
        parts.append("KL in the reward")
    return ", ".join(parts)


@contextmanager
def failing_in_words() -> Iterator[None]:
    """Print an error as a message, and exit with its code."""
    try:
        yield
    except TrainerError as exc:
        words = "\n".join([str(exc), *getattr(exc, "__notes__", ())])
        raise ended("medreward-train", words, EXIT_CODES.get(type(exc), FAILED)) from exc
    except BrokenPipeError:
        # Whoever read the result has had enough; typer ends the command without a word.
        raise
    except OSError as exc:
        # A folder that cannot be made, say, or a disk that is full.
        raise ended("medreward-train", told_by_system(exc), FAILED) from exc
    except KeyboardInterrupt as exc:
        tell("medreward-train: interrupted")
        raise typer.Exit(INTERRUPTED) from exc


def _print_written(path: Path) -> None:
    output().print(shown(f"wrote {path}"), soft_wrap=True)
