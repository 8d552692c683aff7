"""The file of `score_many`: one JSON line a result, appended as it arrives, read by the next run.

    {"id": "p17-r3", "status": "scored", "reward": 1.0, "components": {...}, "flags": [],
     "error": null, "recipe": "medix-r1", "fingerprint": "sha256:...", "judge": "...",
     "embedder": "...", "digest": "..."}

Each line names everything that its reward depends on, so that lines can be sorted, filtered and
joined; a header would get lost. `digest` identifies the sample, whose text is not in the file.
"""

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

import orjson

from medreward_client._http import as_builtin
from medreward_client._reading import read_as
from medreward_client._types import (
    ChoiceCriterion,
    Criterion,
    Provenance,
    Sample,
    Scored,
    Unscored,
)
from medreward_client.jsonl import object_in
from medreward_client.locks import lock

LINE_START = b'{"id":'
DIGEST_BYTES = 16


class OtherResults(ValueError):
    """The file holds results that cannot be compared with the new ones, so they are not mixed."""


class Origin(NamedTuple):
    """The parts of a provenance that two comparable rewards share."""

    recipe: str
    fingerprint: str
    judge: str
    embedder: str


FIELDS = frozenset(
    ("id", "status", "reward", "components", "flags", "error", *Origin._fields, "digest")
)


@dataclass(frozen=True, slots=True)
class Named:
    """A sample, the id of its line, and the digest of its content."""

    id: str
    digest: str
    sample: Sample


def read_results(path: str | PathLike[str]) -> dict[str, Scored | Unscored]:
    """Read the results that `score_many` wrote: the last one of each sample, by id.

    A sample that was sent again has several lines, of which the last one counts. A last line that
    was cut off is left out. Raises OtherResults if a line is not a result.
    """
    path = Path(path)
    results: dict[str, Scored | Unscored] = {}
    with path.open("rb") as file:
        for found, _ in _whole_lines(path, file):
            kind: type[Scored | Unscored] = Scored if found["status"] == Scored.status else Unscored
            results[found["id"]] = read_as(kind, found, "line")
    return results


def name(sample: Sample, position: int) -> Named:
    """Return a sample with its id, or its position, and a digest of what its reward depends on."""
    references = sample.reference
    content: list[object] = [
        sample.response,
        [references] if isinstance(references, str) else list(references),
        sample.question,
        sample.modality,
        [_plain(line) for line in sample.criteria or ()],
    ]
    # Only if it is given, so that files written before it counted are read as they were.
    if sample.extra:
        content.append(dict(sample.extra))
    if sample.group_size is not None:
        content.append([sample.group, sample.group_size])
    written = json.dumps(content, sort_keys=True, default=as_builtin).encode()
    digest = hashlib.blake2b(written, digest_size=DIGEST_BYTES).hexdigest()
    return Named(f"#{position}" if sample.id is None else sample.id, digest, sample)


def _plain(line: Criterion | ChoiceCriterion) -> list[object]:
    if isinstance(line, ChoiceCriterion):
        return [line.text, [[choice.text, float(choice.points)] for choice in line.choices]]
    return [line.text, float(line.points)]


class ResultsFile:
    """A file with the results of earlier runs, to which this run appends; one thread may read it while another adds.

    Raises OtherResults if the file holds something else, or another run is writing to it.
    """

    def __init__(self, path: str | PathLike[str], *, recipe: str | None = None) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        self._digests: dict[str, str] = {}
        self._unscored: set[str] = set()
        self._seen: set[str] = set()
        self._origin: Origin | None = None
        self._file = self._path.open("ab+")
        try:
            lock(self._file)
            self._read()
            self._check_recipe(recipe)
        except BlockingIOError:
            self._file.close()
            raise OtherResults(f"{self._path}: another run is writing there") from None
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        # A reply that is being written in the background is finished; later ones are not written.
        with self._lock, self._named():
            self._file.close()

    def has_reward_of(self, named: Named) -> bool:
        """Return True if the file holds a reward of this sample; to be called once for each.

        Raises ValueError if two samples have one id, and OtherResults if the id belongs to
        another content in the file.
        """
        if named.id in self._seen:
            raise ValueError(f"two samples have the id {named.id!r}; ids must be unique")
        self._seen.add(named.id)
        # Removed here, so that a sample takes memory once.
        digest = self._digests.pop(named.id, None)
        if digest not in (None, named.digest):
            raise OtherResults(
                f"{self._path}: {named.id!r} was another sample there (its response, reference, "
                "question, modality, criteria, extra or group_size differ, or an older version "
                "wrote the line without the last two); write to a new file"
            )
        return digest is not None and named.id not in self._unscored

    def add(
        self,
        asked: Sequence[Named],
        results: Sequence[Scored | Unscored],
        provenance: Provenance | None,
    ) -> bool:
        """Write and flush results; False if the file was closed meanwhile.

        `provenance` is None if none has a reward. Raises OtherResults, and writes nothing, if the
        rewards in the file have another origin.
        """
        origin = Origin(*(getattr(provenance, field, "") for field in Origin._fields))
        suffix = origin._asdict()
        lines = [
            orjson.dumps(
                {**_fields(one.id, result), **suffix, "digest": one.digest},
                option=orjson.OPT_APPEND_NEWLINE,
            )
            for one, result in zip(asked, results, strict=True)
        ]
        with self._lock:
            if self._file.closed:
                return False
            if any(isinstance(result, Scored) for result in results):
                self._check_origin(origin)
            with self._named():
                self._file.write(b"".join(lines))
                self._file.flush()
        return True

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Add the file's name to an OSError: that of a full disk has none."""
        try:
            yield
        except OSError as exc:
            raise OSError(exc.errno, exc.strerror, str(self._path)) from exc

    def _read(self) -> None:
        self._file.seek(0)
        end, line = 0, b"\n"
        for found, line in _whole_lines(self._path, self._file):
            end += len(line)
            self._digests[found["id"]] = found["digest"]
            if found["status"] == Scored.status:
                self._origin = Origin(*(found[field] for field in Origin._fields))
                self._unscored.discard(found["id"])
            else:
                self._unscored.add(found["id"])
        # Bytes after the last whole line are one that was cut off, so they are removed.
        self._file.truncate(end)
        if not line.endswith(b"\n"):
            self._file.write(b"\n")

    def _check_recipe(self, recipe: str | None) -> None:
        if recipe is not None and self._origin is not None and recipe != self._origin.recipe:
            raise OtherResults(
                f"{self._path}: its rewards are of the recipe {self._origin.recipe!r}, "
                f"not {recipe!r}; write to a new file"
            )

    def _check_origin(self, origin: Origin) -> None:
        self._origin = self._origin or origin
        differing = [
            f"{field} {theirs!r}, now {ours!r}"
            for field, theirs, ours in zip(Origin._fields, self._origin, origin, strict=True)
            if theirs != ours
        ]
        if differing:
            raise OtherResults(
                f"{self._path}: its rewards cannot be compared with the service's of now "
                f"({'; '.join(differing)}); write to a new file"
            )


def _fields(id_: str, result: Scored | Unscored) -> dict[str, Any]:
    return {
        "id": id_,
        "status": result.status,
        "reward": result.reward if isinstance(result, Scored) else None,
        "components": dict(result.components),
        "flags": result.flags,
        "error": result.error if isinstance(result, Unscored) else None,
    }


def _whole_lines(path: Path, file: BinaryIO) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield each line, parsed and as it is, but not a last one that was cut off."""
    for number, line in enumerate(file, start=1):
        found = object_in(line)
        if found is not None and found.keys() >= FIELDS:
            yield found, line
        elif line.endswith(b"\n") or not _begins_as_ours(line):
            raise OtherResults(
                f"{path}: line {number} is no result of score_many; name another file"
            )


def _begins_as_ours(line: bytes) -> bool:
    """Return True for the beginning of a result, which an interrupted run leaves behind."""
    return line.startswith(LINE_START) or LINE_START.startswith(line)
