"""Keeping results in a file while they come, so that an interrupted run loses none."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from medreward.cli.failures import CommandError, Misuse
from medreward.cli.files import STANDARD_INPUT
from medreward.cli.terminal import messages, shown


class Keeper:
    """Writes results as JSON Lines; without a path it keeps nothing."""

    def __init__(self, path: Path | None, *, source: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None
        self._kept = 0
        if path is not None:
            _check(path, source)

    def keep(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows and hand them to the system at once.

        Raises:
            CommandError: the disk does not take them.
        """
        if self._path is None:
            return
        try:
            # Not before there is something to write: a run that fails at once empties no file.
            self._file = self._file or self._path.open("w", encoding="utf-8")
            for row in rows:
                self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
                self._kept += 1
            self._file.flush()
        except OSError as exc:
            raise CommandError(f"{self._path}: cannot be written ({exc.strerror})") from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file; after a failure, say what it holds."""
        if self._file is None:
            return
        self._file.close()
        if error is not None:
            text = f"{self._path} keeps the {self._kept} results there were"
            messages().print(shown(text), soft_wrap=True)


def _check(path: Path, source: Path) -> None:
    if not path.parent.is_dir():
        raise Misuse(f"--out: no folder {path.parent}; make it first")
    if path.is_dir():
        raise Misuse(f"--out: {path} is a folder; name a file")
    if source != STANDARD_INPUT and path.exists() and path.samefile(source):
        raise Misuse(f"--out: {path} is the file that is read; name another")
