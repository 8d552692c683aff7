"""Output of commands: results on standard output, everything else on standard error.

It needs typer and rich, which the extra `cli` brings.
"""

import sys
from collections.abc import Callable
from importlib.metadata import version as version_of

import typer
from rich.console import Console
from rich.text import Text

FAILED, MISUSED, INTERRUPTED = 1, 2, 130


def command(name: str, help_: str | None = None) -> typer.Typer:
    """Make the command that subcommands are added to."""
    return typer.Typer(
        name=name,
        help=help_,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="rich",
        # Its tracebacks would show the texts of samples and of patients' records.
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def examples(*lines: str) -> str:
    """Format the examples below a command's help."""
    return "\n\n".join(["Examples:", *(f"  {line}" for line in lines)])


def version_printer(distribution: str) -> Callable[[bool], None]:
    """Make the callback of `--version`."""

    def print_version(is_asked: bool) -> None:
        if is_asked:
            typer.echo(f"{distribution} {version_of(distribution)}")
            raise typer.Exit

    return print_version


def output(*, plain_width: int | None = None) -> Console:
    """Open standard output, for the result of a command.

    `plain_width` is the number of columns if there is no terminal to measure.
    """
    console = Console(file=sys.stdout, highlight=False, emoji=False)
    if plain_width is not None and not console.is_terminal:
        console.width = plain_width
    return console


def messages() -> Console:
    """Open standard error, for progress and failures, so that a piped result stays clean."""
    return Console(file=sys.stderr, highlight=False, emoji=False, soft_wrap=True)


def shown(text: str, style: str = "") -> Text:
    """Escape foreign text for printing, so that neither markup nor control sequences work."""
    visible = "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode()
        for char in text
    )
    return Text(visible, style=style)


def tell(message: str, style: str = "") -> None:
    """Print a message to standard error."""
    messages().print(shown(message, style))


def ended(program: str, why: object, code: int) -> typer.Exit:
    """Print the reason why a command ends, and return the exception with its exit code."""
    tell(f"{program}: {why}", "red")
    return typer.Exit(code)
