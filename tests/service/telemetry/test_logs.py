"""The log is written from a thread: it never holds up what is logged about."""

import errno
import logging
import os
import threading
from pathlib import Path

import pytest

from medreward.telemetry.logs import MOST_LINES, QueuedHandler
from tests.support.wait import wait_until

TOLD = "log lines were dropped, since nobody read them"


def record(text: str) -> logging.LogRecord:
    """A line to log."""
    return logging.makeLogRecord({"msg": text})


def test_a_log_that_nobody_reads_stops_nothing() -> None:
    """Lines beyond the queue are dropped and counted; a later reader is told how many."""
    reading, writing = os.pipe()
    dropped: list[None] = []
    handler = QueuedHandler(writing, lambda: dropped.append(None))
    for number in range(2 * MOST_LINES):
        handler.handle(record(f"{number} " + 100 * "x"))
    lost = len(dropped)
    is_written = handler.is_written()
    read = bytearray()

    def read_all() -> None:
        while chunk := os.read(reading, 65536):
            read.extend(chunk)

    reader = threading.Thread(target=read_all)
    reader.start()
    wait_until(handler.is_written)
    os.close(writing)
    reader.join()
    os.close(reading)
    lines = read.decode().splitlines()

    assert lost > 0
    assert not is_written
    assert lines[0].startswith("0 ")
    # The thread may have told of some of them before the pipe was full.
    told = [int(line.split()[0]) for line in lines if line.endswith(TOLD)]
    assert sum(told) == lost
    assert len(lines) == 2 * MOST_LINES - lost + len(told)


def test_lines_are_written_in_order(tmp_path: Path) -> None:
    """And all of them before the process ends; also with signs that are no UTF-8."""
    with (tmp_path / "log").open("wb") as file:
        handler = QueuedHandler(file.fileno(), lambda: None)
        for number in range(100):
            handler.handle(record(f"{number} \ud800"))
        handler.flush()

    assert (tmp_path / "log").read_text().splitlines() == [f"{n} \\ud800" for n in range(100)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file of Linux")
def test_a_full_disk_stops_nothing() -> None:
    """What cannot be written is counted, and the thread goes on."""
    dropped: list[None] = []
    with Path("/dev/full").open("wb", buffering=0) as full:
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            full.write(b"x")
        handler = QueuedHandler(full.fileno(), lambda: dropped.append(None))
        for _ in range(3):
            handler.handle(record("lost"))
        handler.flush()

    assert len(dropped) == 3
