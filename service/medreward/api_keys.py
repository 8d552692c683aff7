"""The keys that callers send: how they are written, and the file that is read again."""

import asyncio
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import structlog

SIGN = ":="
"""Between the name and the key; a key without a name never contains it."""
READ_EVERY_S = 1.0

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_ENDS = re.compile(r"[,\r\n]")
_BYTE_ORDER_MARK = "\ufeff"

log = structlog.get_logger(__name__)


class ApiKey(NamedTuple):
    """One key, and the name under which its caller is known however often the key changes."""

    key: str
    name: str = ""

    @property
    def namespace(self) -> str:
        """The namespace of its cache and runs, a digest that does not reveal the key.

        Those of named keys are longer, so no key without a name can have the same.
        """
        if self.name:
            return hashlib.sha256(b"name:" + self.name.encode()).hexdigest()[:20]
        return hashlib.sha256(b"namespace:" + self.key.encode()).hexdigest()[:16]

    @property
    def written(self) -> str:
        """The key as settings and files have it."""
        return f"{self.name}{SIGN}{self.key}" if self.name else self.key


def split_keys(text: str) -> list[str]:
    """Split keys at commas and ends of lines, without a byte order mark."""
    items = map(str.strip, _ENDS.split(text.removeprefix(_BYTE_ORDER_MARK)))
    return [item for item in items if item]


def read_keys(items: Sequence[str]) -> tuple[ApiKey, ...]:
    """Read keys, each as `key` or `name:=key`.

    Raises:
        ValueError: naming what is wrong with which one, but quoting none.
    """
    keys = tuple(_read_key(item, number) for number, item in enumerate(items, 1))
    for number, (key, name) in enumerate(keys, 1):
        if any(key == other.key and name != other.name for other in keys[: number - 1]):
            raise ValueError(f"key {number} is also listed with another name, or without one")
    return keys


def read_key_file(file: Path) -> tuple[ApiKey, ...]:
    """Read the keys in a file.

    Raises:
        ValueError: it holds none, cannot be read, or a key in it is wrong.
    """
    try:
        keys = read_keys(split_keys(file.read_bytes().decode("utf-8")))
    except OSError as exc:
        reason = exc.strerror or type(exc).__name__
        raise ValueError(f"{file} cannot be read ({reason}): put the keys into it") from None
    except UnicodeDecodeError:
        raise ValueError(f"{file} is not UTF-8: write it anew") from None
    except ValueError as exc:
        raise ValueError(f"{file}: {exc}") from None
    if not keys:
        raise ValueError(f"{file} holds no key: put one into it, or remove the file")
    return keys


class KeyRing:
    """The keys in force. Those of a file are replaced when it changes, without a restart."""

    def __init__(
        self, keys: Sequence[ApiKey], file: Path | None = None, *, shares_cache: bool = False
    ) -> None:
        self._shares_cache = shares_cache
        self._keys = tuple(keys)
        self._file = file
        self._seen: tuple[ApiKey, ...] | str = self._keys
        """The keys in the file, or what is wrong with it, when it was read last."""
        self._settled: tuple[ApiKey, ...] | str = self._keys
        """The same, when it was last equal twice in a row."""
        self.namespaces: Mapping[bytes, str] = self._namespaces()
        """The namespace of each text that a caller may send as key."""

    async def follow(self) -> None:
        """Read the file every second, until cancelled."""
        while self._file is not None:
            await asyncio.sleep(READ_EVERY_S)
            self._take(await asyncio.to_thread(_content, self._file))

    def reread(self) -> None:
        """Read the file again: its keys are in force once two readings in a row were equal.

        A file that is being written is empty, or holds a part of its keys.
        """
        if self._file is not None:
            self._take(_content(self._file))

    def _take(self, found: tuple[ApiKey, ...] | str) -> None:
        is_new = found == self._seen and found != self._settled
        self._seen = found
        if not is_new:
            return
        self._settled = found
        if isinstance(found, str):
            log.error("api_keys_kept", reason=found)
        elif self._is_cut_off(found):
            log.error("api_keys_kept", reason=f"{self._file} ends within a key that is in force")
        else:
            self._keys = found
            self.namespaces = self._namespaces()
            log.info("api_keys_replaced", keys=len(found))

    def _is_cut_off(self, found: Sequence[ApiKey]) -> bool:
        """Return True if the last key is the beginning of one in force that the file lost."""
        # As written: of a key with a name, its name alone may be left, which must not become a key.
        last = found[-1].written
        lost = {key.written for key in self._keys} - {key.written for key in found}
        return any(written.startswith(last) for written in lost)

    def _namespaces(self) -> dict[bytes, str]:
        # With its name too, as it stands in the file: who copies the whole entry is let in.
        return {
            sent.encode(): "" if self._shares_cache else one.namespace
            for one in self._keys
            for sent in (one.key, one.written)
        }


def _content(file: Path) -> tuple[ApiKey, ...] | str:
    try:
        return read_key_file(file)
    except ValueError as exc:
        return str(exc)


def _read_key(item: str, number: int) -> ApiKey:
    name, sign, key = item.rpartition(SIGN)
    if not item.isprintable():
        raise ValueError(f"key {number} holds a character that cannot be printed")
    if sign and not (_NAME.fullmatch(name) and key and key == key.strip()):
        raise ValueError(
            f"key {number} holds {SIGN}, which ends a name: write it as name{SIGN}key, with a name "
            "of small letters, digits, dots, dashes and underscores; a key itself cannot hold it"
        )
    return ApiKey(key, name)
