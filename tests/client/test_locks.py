"""Locks of files, as the client, the trainer and the evaluation take them."""

from pathlib import Path

import pytest

from medreward_client.locks import lock, locked


def test_a_lock_is_held_until_the_block_ends(tmp_path: Path) -> None:
    """The file is made, a second holder is refused at once, and afterwards the lock is free."""
    path = tmp_path / ".lock"

    with locked(path), pytest.raises(BlockingIOError), locked(path):
        pass

    with locked(path):
        assert path.read_bytes() == b""


def test_an_open_file_is_locked_until_it_is_closed(tmp_path: Path) -> None:
    """Whatever is written to it meanwhile."""
    path = tmp_path / "rows.jsonl"
    with path.open("ab") as file:
        lock(file)
        file.write(b"{}\n")
        with pytest.raises(BlockingIOError), locked(path):
            pass

    with locked(path):
        pass
