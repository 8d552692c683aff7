"""Where a command writes: results on standard output, everything else on standard error."""

import os
import sys
from typing import IO

from rich.console import Console
from rich.text import Text

PLAIN_WIDTH = 120
"""Columns where there is no terminal to measure."""


def output() -> Console:
    """What the command was asked for."""
    return _console(sys.stdout)


def messages() -> Console:
    """Progress and failures, so that a piped result stays clean."""
    return _console(sys.stderr)


def shown(text: str, style: str = "") -> Text:
    r"""Text of others, as it can be shown: neither markup nor a terminal's control sequences work.

    What cannot be seen is written out (`\xa0`, `\u200b`): it is often why two texts differ.
    """
    visible = "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode()
        for char in text
    )
    return Text(visible, style=style)


def _console(stream: IO[str]) -> Console:
    is_measured = stream.isatty() or "COLUMNS" in os.environ
    return Console(
        file=stream,
        width=None if is_measured else PLAIN_WIDTH,
        highlight=False,
        emoji=False,
    )
