"""The command line: `medreward --help` tells what it can do."""

import os
import sys
from contextlib import suppress
from io import TextIOWrapper

from medreward.cli.commands import app


def main() -> None:
    """Run the command that the command line names."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A terminal that cannot show a sign gets a question mark, not a traceback.
            stream.reconfigure(errors="replace")
    try:
        app()
    except SystemExit as end:
        _leave_at_once(end.code)


def _leave_at_once(code: str | int | None) -> None:
    """End without waiting for a model: while it loads, or answers, it cannot be told to stop."""
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))
