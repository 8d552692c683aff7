"""Output of commands: results on standard output, everything else on standard error.

It needs typer and rich, which the extra `cli` brings.
"""

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version as version_of
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO, cast

import typer
from rich.console import Console
from rich.text import Text

FAILED, MISUSED, INTERRUPTED = 1, 2, 130
PRINTERS = {"rich", "typer", "click", "_click"}
"""Packages that write to the standard streams."""


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


def run_app(app: typer.Typer, program: str) -> None:
    """Run the command that the command line names."""
    _open_streams()
    try:
        app(prog_name=program)
    except OSError as exc:
        # What typer itself prints, such as a help text.
        sys.exit(ended(program, told_by_system(exc), FAILED).exit_code)
    finally:
        _release_streams()


def _open_streams() -> None:
    """Make the standard streams usable, whatever a command is started with."""
    # For a closed stream Python has None. One that refuses to be written to takes the place of
    # standard output, so that a lost result is an error like that of a full disk.
    if sys.stdin is None:
        sys.stdin = _nothing("r", os.O_RDONLY)
    if sys.stdout is None:
        sys.stdout = _nothing("w", os.O_RDONLY)
    if sys.stderr is None:
        sys.stderr = _nothing("w", os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A character that the terminal cannot show becomes a question mark, not an error.
            stream.reconfigure(errors="replace")


def _release_streams() -> None:
    """Flush the standard streams; Python would print a traceback if it could not when it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _nothing(mode: str, flags: int) -> TextIO:
    return cast("TextIO", os.fdopen(os.open(os.devnull, flags), mode, encoding="utf-8"))


@contextmanager
def unforeseen_told(program: str) -> Iterator[None]:
    """End a command by a message if the system refuses something, or the program has a fault."""
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except BrokenPipeError:
        # Whoever read the result has had enough; typer ends the command without a word.
        raise
    except OSError as exc:
        raise ended(program, told_by_system(exc), FAILED) from exc
    except Exception as exc:
        if sys.flags.dev_mode:
            raise
        raise ended(program, _told_as_fault(program, exc), FAILED) from exc


def told_by_system(error: OSError) -> str:
    """Describe what the system refuses, with the file's name if there is one."""
    what = error.strerror or type(error).__name__
    if error.filename is not None:
        return f"{error.filename}: {what}"
    # Our own writes to files are named; without a name it is what rich or typer print.
    frames = traceback.extract_tb(error.__traceback__)
    is_printing = any(Path(frame.filename).parent.name in PRINTERS for frame in frames)
    return f"standard output cannot be written: {what}" if is_printing else what


def _told_as_fault(program: str, error: Exception) -> str:
    """Describe an unexpected exception by its place: its text may quote a sample."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    places = ", ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
    return (
        f"a fault of this program: {type(error).__name__} at {places}; please report it. "
        f"`python -X dev -m {program.replace('-', '_')} ...` shows all of it"
    )
