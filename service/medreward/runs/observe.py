"""What the watch sees of a sample: numbers, and hashes that cannot be looked up. No text."""

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Generic, NamedTuple, TypeVar

from medreward.rewards.reward import Reward, Unscored
from medreward.samples import Sample

T = TypeVar("T")

BITS_64 = 2**64 - 1


class Observed(NamedTuple):
    """One sample; its hashes are equal where the texts are, within this process alone."""

    prompt: int
    """Of the group's id if it was given, else of question and references."""
    answer: int
    """Of the answer, without case and outer marks."""
    answer_characters: int
    """0 where the response was not read."""
    reward: float | None
    """None where the sample is unscored."""
    components: Mapping[str, float]
    flags: tuple[str, ...]
    reference: int | None = None
    """Of the reference that the answer is equal to, else of the first; hashed as answers are."""


def observed(samples: Sequence[Sample], results: Sequence[Reward | Unscored]) -> Iterator[Observed]:
    """Yield what the watch may see of the samples of one request and their results."""
    said, groups = _Hashes[str](_plain), _Hashes[str](_of_group)
    prompts = _Hashes[tuple[str, ...]](_joined)
    # Equal samples share one result.
    values = {id(result): _values(result) for result in results}
    for sample, result in zip(samples, results, strict=True):
        given, group = said[result.answer], sample.group
        yield Observed(
            prompts[_asked(sample)] if group is None else groups[group],
            given,
            len(result.answer),
            result.total if isinstance(result, Reward) else None,
            values[id(result)],
            result.flags,
            _reference(sample, given, said),
        )


class _Hashes(dict[T, int], Generic[T]):
    """Keyed hashes, by what they are of; a request says the same things again and again."""

    def __init__(self, text_of: Callable[[T], str]) -> None:
        super().__init__()
        self._text_of = text_of

    def __missing__(self, thing: T) -> int:
        # SipHash, keyed by Python for each process and by us where PYTHONHASHSEED says its key.
        hashed = self[thing] = hash(_salt() + self._text_of(thing)) & BITS_64
        return hashed


@cache
def _salt() -> str:
    """Give what this process's hashes begin with: without it, nobody can try texts against them."""
    return secrets.token_hex(16)


def _reference(sample: Sample, answer: int, said: "_Hashes[str]") -> int:
    if isinstance(sample.reference, str):
        return said[sample.reference]
    accepted = [said[reference] for reference in sample.reference]
    return answer if answer in accepted else accepted[0]


def _asked(sample: Sample) -> tuple[str, ...]:
    return (sample.question or "", *sample.references)


def _of_group(group: str) -> str:
    # No question looks like it: those begin with a length.
    return f"group:{group}"


def _joined(parts: tuple[str, ...]) -> str:
    # Lengths keep the parts apart.
    return "".join([f"{len(part)}:{part}" for part in parts])


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .")


def _values(result: Reward | Unscored) -> dict[str, float]:
    return {name: part.signal.value for name, part in result.components.items()}
