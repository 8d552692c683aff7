"""The API key of servers: fixed, or in a file that may be rewritten while the service runs."""

import re
from pathlib import Path

from pydantic import SecretStr

from medreward.errors import SetupError

VISIBLE = re.compile(r"[!-~]+")
"""The characters that an HTTP header can carry."""


class ApiKey:
    """The key for one group of servers; neither logs nor messages show it."""

    def __init__(self, key: SecretStr | None = None, file: Path | None = None) -> None:
        self._file = file
        self._key = None if key is None else key.get_secret_value()
        if file is not None:
            self._key = self._read(file)
        elif self._key is not None:
            _check(self._key, "the key")

    @property
    def headers(self) -> dict[str, str]:
        """The headers that authenticate a request; empty without a key."""
        return {"Authorization": f"Bearer {self._key}"} if self._key else {}

    def reread(self) -> bool:
        """Read the file again after a server refused the key; return True if it holds another."""
        if self._file is None:
            return False
        before = self._key
        try:
            self._key = self._read(self._file)
        except SetupError:
            return False
        return self._key != before

    @staticmethod
    def _read(file: Path) -> str:
        try:
            key = file.read_text("utf-8-sig").strip()
        except (OSError, UnicodeDecodeError) as exc:
            raise SetupError(f"cannot read a key from {file} ({type(exc).__name__})") from exc
        _check(key, f"the key in {file}")
        return key


def _check(key: str, name: str) -> None:
    if not VISIBLE.fullmatch(key):
        raise SetupError(f"{name} is empty, or holds what no HTTP header can carry")
