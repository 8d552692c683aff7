"""Results in a file: one JSON line each, written as they come, found again by the next run.

    {"id": "p17-r3", "status": "scored", "reward": 1.0, "components": {...}, "flags": [],
     "error": null, "recipe": "medix-r1", "fingerprint": "sha256:...", "judge": "...",
     "embedder": "...", "digest": "..."}

Each line says what its reward depends on, so that lines can be sorted, filtered and joined; a
header would go astray. `digest` stands for what was scored, which is not in the file itself.
"""

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self, TypeVar

import orjson

from medreward_client._types import Component, Problem, RewardReply, Sample, Scored, Unscored
from medreward_client.jsonl import object_in
from medreward_client.locks import lock

LINE_START = b'{"id":'
DIGEST_BYTES = 16

T = TypeVar("T")


class OtherResults(ValueError):
    """A file holds other results than those that would be added: mixed, they would mislead."""


class Origin(NamedTuple):
    """What two rewards must share to be comparable."""

    recipe: str
    fingerprint: str
    judge: str
    embedder: str


FIELDS = frozenset(
    ("id", "status", "reward", "components", "flags", "error", *Origin._fields, "digest")
)


@dataclass(frozen=True, slots=True)
class Named:
    """A sample, the id of its line, and what its content is known by."""

    id: str
    digest: str
    sample: Sample


def read_results(path: str | PathLike[str]) -> dict[str, Scored | Unscored]:
    """Read the results that `score_many` wrote, by id: the last word on each sample.

    A sample that was asked about again has several lines, of which the last one holds. A last
    line that was cut off is left out. Raises OtherResults where a line is no result.
    """
    path = Path(path)
    with path.open("rb") as file:
        return {line["id"]: _result(line) for line in _whole_lines(path, file)}


def name(sample: Sample, position: int) -> Named:
    """Name a sample by its id, or else by its position, and digest what its reward depends on."""
    references = sample.reference
    content = [
        sample.response,
        [references] if isinstance(references, str) else list(references),
        sample.question,
        sample.modality,
        [[line.text, float(line.points)] for line in sample.criteria or ()],
    ]
    digest = hashlib.blake2b(json.dumps(content).encode(), digest_size=DIGEST_BYTES).hexdigest()
    return Named(f"#{position}" if sample.id is None else sample.id, digest, sample)


class ResultsFile:
    """The results of earlier runs, and the place for those of this one; threads may share it.

    Raises OtherResults where the file holds something else, or is written by another run.
    """

    def __init__(self, path: str | PathLike[str], *, recipe: str | None = None) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        self._scored: dict[str, str] = {}
        self._unscored: dict[str, str] = {}
        self._seen: set[str] = set()
        self._origin: Origin | None = None
        self._file = self._path.open("ab+")
        try:
            self._keep_others_out()
            self._read()
            self._check_recipe(recipe)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        # Whoever is writing a reply gets to its end; a reply that comes later is not taken.
        with self._lock:
            self._file.close()

    def has_reward_of(self, named: Named) -> bool:
        """Tell whether a sample was scored before; ask once for each.

        Raises ValueError where two samples have one id, and OtherResults where the id stands for
        another content in the file.
        """
        if named.id in self._seen:
            raise ValueError(f"two samples have the id {named.id!r}; ids must be unique")
        self._seen.add(named.id)
        is_scored = named.id in self._scored
        # Forgotten again, so that a sample takes memory once.
        digest = self._scored.pop(named.id, None) or self._unscored.pop(named.id, None)
        if digest not in (None, named.digest):
            raise OtherResults(
                f"{self._path}: {named.id!r} was another sample there (its response, reference, "
                "question, modality or criteria differ); write to a new file"
            )
        return is_scored

    def add(self, asked: Sequence[Named], reply: RewardReply) -> bool:
        """Write a reply and hand it to the system; False if the file was closed meanwhile.

        Raises OtherResults, and writes nothing, where the rewards depend on something else than
        those that are there.
        """
        told = reply.provenance
        origin = Origin(told.recipe, told.fingerprint, told.judge, told.embedder)
        suffix = origin._asdict()
        lines = [
            orjson.dumps(
                {**_fields(one.id, result), **suffix, "digest": one.digest},
                option=orjson.OPT_APPEND_NEWLINE,
            )
            for one, result in zip(asked, reply.results, strict=True)
        ]
        with self._lock:
            if self._file.closed:
                return False
            if any(isinstance(result, Scored) for result in reply.results):
                self._check_origin(origin)
            self._file.write(b"".join(lines))
            self._file.flush()
        return True

    def _keep_others_out(self) -> None:
        try:
            lock(self._file)
        except BlockingIOError:
            raise OtherResults(f"{self._path}: another run is writing there") from None

    def _read(self) -> None:
        self._file.seek(0)
        end, is_ended = 0, True
        for line in _whole_lines(self._path, self._file):
            self._scored.pop(line["id"], None)
            self._unscored.pop(line["id"], None)
            if line["status"] == Scored.status:
                self._origin = Origin(*(line[field] for field in Origin._fields))
                self._scored[line["id"]] = line["digest"]
            else:
                self._unscored[line["id"]] = line["digest"]
            end, is_ended = line["end"], line["is_ended"]
        # What is behind the last whole line was cut off in the middle.
        self._file.truncate(end)
        if not is_ended:
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


def _result(line: dict[str, Any]) -> Scored | Unscored:
    parts = {name: _record(Component, part) for name, part in line["components"].items()}
    if line["status"] == Scored.status:
        return Scored(line["id"], line["reward"], parts, tuple(line["flags"]))
    return Unscored(line["id"], _record(Problem, line["error"]), parts, tuple(line["flags"]))


def _record(kind: type[T], told: dict[str, Any]) -> T:
    """Take what the record knows; a newer client may have written more."""
    return kind(**{f.name: told[f.name] for f in fields(kind) if f.name in told})  # type: ignore[arg-type]


def _whole_lines(path: Path, file: BinaryIO) -> Iterator[dict[str, Any]]:
    """Give each line, where it ends and whether by a line feed; not a last one that was cut off."""
    end = 0
    for number, line in enumerate(file, start=1):
        end += len(line)
        told, is_ended = _parsed(line), line.endswith(b"\n")
        if told is not None:
            yield {**told, "end": end, "is_ended": is_ended}
        elif is_ended or not _begins_as_ours(line):
            raise OtherResults(
                f"{path}: line {number} is no result of score_many; name another file"
            )


def _parsed(line: bytes) -> dict[str, Any] | None:
    told = object_in(line)
    return told if told is not None and told.keys() >= FIELDS else None


def _begins_as_ours(line: bytes) -> bool:
    """Tell a line of ours that lost its end from a file that is none of ours."""
    return line.startswith(LINE_START) or LINE_START.startswith(line)
