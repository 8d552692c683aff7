"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Url = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help="A running service. Without it, one is started for the while."
    ),
]
ApiKeyEnv = Annotated[
    str, typer.Option(metavar="NAME", help="The environment variable that holds the service's key.")
]
DeadlineS = Annotated[
    float,
    typer.Option("--deadline", metavar="SECONDS", min=0.001, help="How long one batch may take."),
]
RecipeName = Annotated[
    str | None,
    typer.Option("--recipe", metavar="NAME", help="Which recipe; else the service's default."),
]
Batch = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="How many to send in one request; else at most 64."),
]
Limit = Annotated[int | None, typer.Option(min=1, metavar="N", help="Read only the first N lines.")]
Out = Annotated[
    Path | None,
    typer.Option(metavar="OUT.jsonl", help="Write every result there, as it comes."),
]
ShowsAll = Annotated[bool, typer.Option("--all", help="Show every row, not only the first 40.")]

KEY_VARIABLE = "MEDREWARD_KEY"
DEADLINE_S = 600.0


def examples(*lines: str) -> str:
    """The end of a command's help."""
    return "\n\n".join(["Examples:", *(f"  {line}" for line in lines)])
