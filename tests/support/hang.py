"""A thread of another process that hangs, as in a call of a driver that never returns."""

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.wait import wait_until

# Of <sys/ptrace.h> and <sys/wait.h>.
SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17
ANY_THREAD = 0x40000000


def cpu_ns(pid: int) -> dict[int, int]:
    """Return the CPU time of each thread of a process."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return {int(task.name): int((task / "schedstat").read_text().split()[0]) for task in tasks}


@contextmanager
def hanging_to_the_end(thread: int) -> Iterator[None]:
    """Stop one thread of a child process until the process ends; the block makes it end.

    A stopped thread's process is a zombie until the tracer, which is this thread, has waited for it.
    """
    _trace(SEIZE, thread)
    try:
        _trace(INTERRUPT, thread)
        os.waitpid(thread, ANY_THREAD)
        yield
        wait_until(lambda: os.waitpid(thread, ANY_THREAD | os.WNOHANG) != (0, 0))
    except BaseException:
        _trace(DETACH, thread)
        raise


def _trace(request: int, thread: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    nothing = ctypes.c_void_p(None)
    if library.ptrace(ctypes.c_long(request), ctypes.c_long(thread), nothing, nothing) == -1:
        number = ctypes.get_errno()
        if number == errno.EPERM:
            pytest.skip("no thread can be stopped here: ptrace is not permitted")
        raise OSError(number, os.strerror(number))
