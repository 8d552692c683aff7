"""Options that several commands share, and shorthands for declaring options."""

from pathlib import Path
from typing import Annotated, Any

import typer

KEY_VARIABLE = "MEDREWARD_KEY"
"""Default environment variable for the key of a service."""
DEADLINE_S = 600.0


def option(
    metavar: str, text: str, *names: str, least: float | None = None, most: float | None = None
) -> Any:
    """Declare an option: its value, its help, and its names if they differ from the parameter's."""
    return typer.Option(*names, metavar=metavar, help=text, min=least, max=most)


def argument(metavar: str, text: str) -> Any:
    """Declare an argument: its value and its help."""
    return typer.Argument(metavar=metavar, help=text)


Url = Annotated[
    str | None, option("URL", "A running service. Without it, one is started for the while.")
]
ApiKeyEnv = Annotated[str, option("NAME", "The environment variable that holds the service's key.")]
DeadlineS = Annotated[
    float, option("SECONDS", "How long one batch may take.", "--deadline", least=0.001)
]
RecipeName = Annotated[
    str | None, option("NAME", "Which recipe; else the service's default.", "--recipe")
]
Batch = Annotated[
    int | None, option("N", "How many to send in one request; else at most 64.", least=1)
]
Limit = Annotated[int | None, option("N", "Read only the first N lines.", least=1)]
Out = Annotated[Path | None, option("OUT.jsonl", "Write every result there, as it comes.")]
ShowsAll = Annotated[bool, typer.Option("--all", help="Show every row, not only the first 40.")]
