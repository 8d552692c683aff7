"""Groups of texts of similar length for a forward pass, so that little of it is padding."""

from collections.abc import Iterator, Mapping


def by_length(
    lengths: Mapping[int, int], *, max_tokens: int, max_texts: int | None = None
) -> Iterator[list[int]]:
    """Group texts, shortest first; *lengths* holds the tokens of each, by its number.

    A group has at most *max_tokens* with its padding; a text longer than that goes alone.
    """
    group: list[int] = []
    for i in sorted(lengths, key=lengths.__getitem__):
        is_full = len(group) == max_texts or (len(group) + 1) * lengths[i] > max_tokens
        if group and is_full:
            yield group
            group = []
        group.append(i)
    if group:
        yield group
