"""Observations of samples for the watch: numbers and keyed hashes, no text."""

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Generic, NamedTuple, TypeVar

from medreward.rewards.reward import Reward, Unscored
from medreward.samples import Sample

T = TypeVar("T")

BITS_64 = 2**64 - 1


class Observed(NamedTuple):
    """One observed sample; equal texts have equal hashes, within this process only."""

    prompt: int
    """Hash of the group's id if there is one, otherwise of question and references."""
    answer: int
    """Hash of the answer without case, outer spaces and full stops."""
    answer_characters: int
    """0 if the response was not parsed."""
    reward: float | None
    """From 0 to 1, in the recipe's range; None if the sample is unscored."""
    components: Mapping[str, float]
    flags: tuple[str, ...]
    reference: int | None = None
    """Hash of the reference that equals the answer, otherwise of the first; computed as `answer`."""


def observed(
    samples: Sequence[Sample],
    results: Sequence[Reward | Unscored],
    to_unit: Callable[[float], float] = float,
) -> Iterator[Observed]:
    """Yield the observations of one request's samples and their results.

    *to_unit* maps a reward from its recipe's range to 0..1.
    """
    said, groups = _Hashes[str](_plain), _Hashes[str](_of_group)
    prompts = _Hashes[tuple[str, ...]](_joined)
    # Equal samples share one result.
    values: dict[int, Mapping[str, float]] = {
        id(result): {name: part.signal.value for name, part in result.components.items()}
        for result in results
    }
    for sample, result in zip(samples, results, strict=True):
        given, group = said[result.answer], sample.group
        yield Observed(
            prompts[sample.question or "", *sample.references] if group is None else groups[group],
            given,
            len(result.answer),
            to_unit(result.total) if isinstance(result, Reward) else None,
            values[id(result)],
            result.flags,
            _reference(sample, given, said),
        )


class _Hashes(dict[T, int], Generic[T]):
    """Keyed hashes by value, cached because the texts of a request repeat."""

    def __init__(self, text_of: Callable[[T], str]) -> None:
        super().__init__()
        self._text_of = text_of

    def __missing__(self, thing: T) -> int:
        # SipHash with Python's random key of this process. PYTHONHASHSEED may fix
        # that key, so the salt adds a secret of our own.
        hashed = self[thing] = hash(_salt() + self._text_of(thing)) & BITS_64
        return hashed


@cache
def _salt() -> str:
    """Return this process's secret prefix of hashed texts: without it, guesses cannot be verified."""
    return secrets.token_hex(16)


def _reference(sample: Sample, answer: int, said: "_Hashes[str]") -> int:
    if isinstance(sample.reference, str):
        return said[sample.reference]
    accepted = [said[reference] for reference in sample.reference]
    return answer if answer in accepted else accepted[0]


def _of_group(group: str) -> str:
    # The prefix separates groups from questions, which begin with a length.
    return f"group:{group}"


def _joined(parts: tuple[str, ...]) -> str:
    # The lengths make the text unambiguous.
    return "".join([f"{len(part)}:{part}" for part in parts])


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .")
