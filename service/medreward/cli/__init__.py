"""The command line; `medreward --help` lists its commands."""

import os
import sys
from contextlib import suppress
from io import TextIOWrapper

from medreward.cli.commands import app


def main() -> None:
    """Run the command that the command line names."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A character that the terminal's encoding lacks becomes a question mark, instead of
            # a traceback.
            stream.reconfigure(errors="replace")
    try:
        app()
    except SystemExit as end:
        _leave_at_once(end.code)


def _leave_at_once(code: str | int | None) -> None:
    """End the process without waiting for its threads: a model call cannot be interrupted."""
    # `os._exit` skips the flush of the standard streams, so it is done here.
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))
