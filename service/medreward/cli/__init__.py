"""The command line; `medreward --help` lists its commands."""

import os
import sys
from io import TextIOWrapper
from typing import TextIO, cast

import typer

from medreward.cli.commands import app
from medreward.cli.terminal import exiting_on_failure


def main() -> None:
    """Run the command that the command line names."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A character that the terminal's encoding lacks becomes a question mark, instead of
            # a traceback.
            stream.reconfigure(errors="replace")
    try:
        # Typer itself prints, too: a help text may find a full disk.
        with exiting_on_failure():
            app()
    except SystemExit as end:
        _leave_at_once(end.code)
    except typer.Exit as end:
        _leave_at_once(end.exit_code)


def _leave_at_once(code: str | int | None) -> None:
    """End the process without waiting for its threads: a model call cannot be interrupted."""
    status = code if isinstance(code, int) else int(code is not None)
    # `os._exit` skips the flush of the standard streams, so it is done here.
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            status = status or 1
    os._exit(status)


def _open_closed_streams() -> None:
    # For a closed stream Python has None. One that refuses to be written to takes the place of
    # standard output, so that a lost result is an error like that of a full disk.
    if sys.stdin is None:
        sys.stdin = _nothing("r", os.O_RDONLY)
    if sys.stdout is None:
        sys.stdout = _nothing("w", os.O_RDONLY)
    if sys.stderr is None:
        sys.stderr = _nothing("w", os.O_WRONLY)


def _nothing(mode: str, flags: int) -> TextIO:
    return cast("TextIO", os.fdopen(os.open(os.devnull, flags), mode, encoding="utf-8"))
