"""Locks of files that one process at a time may write to."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

if sys.platform != "win32":
    import fcntl


def lock(file: BinaryIO) -> None:
    """Lock an open file for as long as this process has it open.

    A file system without locks, or Windows, locks nothing.

    Raises:
        BlockingIOError: another process holds the lock.
    """
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a file's lock until the block ends; the file is made if there is none.

    Raises:
        BlockingIOError: another process holds the lock.
    """
    with path.open("ab") as file:
        lock(file)
        yield
