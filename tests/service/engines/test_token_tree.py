"""Trees of tokens: nothing is lost, nothing stands twice, nothing sees its neighbour."""

from hypothesis import given
from hypothesis import strategies as st

from medreward.engines.local.token_tree import TokenTree, begins_with, common_length, plan_trees

ids = st.lists(st.integers(0, 3), min_size=1, max_size=12)


def spelled(tree: TokenTree, path: list[int]) -> list[int]:
    """The tokens that a path leads along."""
    return [*tree.prefix, *(tree.tokens[place] for place in path)]


@given(st.lists(ids, max_size=12), ids, st.integers(1, 40))
def test_every_path_spells_its_prompt(
    rests: list[list[int]], prefix: list[int], max_tokens: int
) -> None:
    """Each prompt is in one tree, and that tree is within the budget or holds one prompt alone."""
    prompts = {number: prefix + rest for number, rest in enumerate(rests)}
    trees = plan_trees(prompts, prefix, max_tokens=max_tokens)

    found = {n: spelled(tree, path) for tree in trees for n, path in tree.paths.items()}
    assert found == prompts
    assert all(tree.prefix == tuple(prefix) for tree in trees)
    assert all(
        len(t.tokens) <= max_tokens or len(set(map(str, t.paths.values()))) == 1 for t in trees
    )


@given(st.lists(ids, min_size=1, max_size=12))
def test_what_prompts_begin_with_stands_once(rests: list[list[int]]) -> None:
    """A tree has as many tokens as there are different beginnings."""
    (tree,) = plan_trees(dict(enumerate(rests)), (), max_tokens=1000)

    beginnings = {tuple(rest[: end + 1]) for rest in rests for end in range(len(rest))}
    assert len(tree.tokens) == len(beginnings)


@given(st.lists(ids, min_size=1, max_size=8), st.randoms())
def test_the_order_of_prompts_does_not_matter(rests: list[list[int]], chance: object) -> None:
    """The same prompts make trees of the same tokens."""
    numbered = list(enumerate(rests))
    chance.shuffle(numbered)  # type: ignore[attr-defined]

    shuffled = plan_trees(dict(numbered), (), max_tokens=20)
    assert [t.tokens for t in shuffled] == [
        t.tokens for t in plan_trees(dict(enumerate(rests)), (), max_tokens=20)
    ]


def test_a_prefix_that_is_not_everybodys_is_nobodys() -> None:
    """A prompt that begins otherwise, or ends with the prefix, is laid out whole."""
    for odd in ([9, 9, 9], [1, 2]):
        (tree,) = plan_trees({0: [1, 2, 3], 1: odd}, (1, 2), max_tokens=100)
        assert tree.prefix == ()
        assert spelled(tree, tree.paths[1]) == odd


def test_prefixes_are_compared_token_by_token() -> None:
    """A prompt that is no longer than the prefix has nothing left to judge."""
    assert begins_with([1, 2, 3], (1, 2))
    assert not begins_with([1, 2], (1, 2))
    assert common_length([1, 2, 3], [1, 2]) == 2
    assert common_length([], [1]) == 0
