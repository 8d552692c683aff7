"""The fair queue: every question in one batch, small callers first, and equal shares for large ones."""

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward.engines.capacity import Capacity
from medreward.inference.fair_queue import QUANTUM, Batch, FairQueue, Flow


def queue_for(batch: int, *, tokens: int | None = None, concurrency: int = 1) -> FairQueue[str]:
    """A queue of texts: the group is the first letter, and each letter a token."""
    capacity = Capacity(batch, concurrency, tokens)
    return FairQueue(capacity, group=lambda text: text[0], tokens=len)


def push(queue: FairQueue[str], texts: Sequence[str], deadline_s: float = 60.0) -> Flow[str]:
    """Queue one caller's texts, each its own key."""
    return queue.push({text.encode(): text for text in texts}, deadline_s)


def served(queue: FairQueue[str]) -> list[list[str]]:
    """The batches of a queue, one after another, until nothing waits."""
    batches = []
    while batch := queue.pop():
        batches.append(list(batch.questions.values()))
        queue.finish(batch)
    return batches


def texts_of(batch: Batch[str] | None) -> list[str]:
    """The texts of a batch that has to be there."""
    assert batch is not None
    return list(batch.questions.values())


MANY = [f"x{number}" for number in range(100)]
EACH_64 = [f"a{n}" for n in range(64)], [f"b{n}" for n in range(64)]


@pytest.mark.parametrize(
    ("queue", "callers", "batches"),
    [
        pytest.param(queue_for(4), [], [], id="an empty queue has no batch"),
        pytest.param(
            queue_for(4), [("", 60), "abcdef"], ["abcd", "ef"], id="a batch is no larger than suits"
        ),
        pytest.param(
            queue_for(1),
            [("l", 60), ("s", 5), ("m", 30)],
            ["s", "m", "l"],
            id="of equals the nearest deadline comes first",
        ),
        pytest.param(
            queue_for(8),
            [["a1", "b1", "a2", "b2"]],
            [["a1", "a2", "b1", "b2"]],
            id="questions of a group are neighbours",
        ),
        pytest.param(
            queue_for(8, tokens=8),
            [["aaaa", "bbbb", "c" * 40, "dd", "ee"]],
            [["aaaa", "bbbb"], ["c" * 40], ["dd", "ee"]],
            id="a batch ends at its limit of tokens, and one that is too long goes alone",
        ),
        pytest.param(
            queue_for(100),
            [MANY[:99], ["x99"]],
            [["x99"], MANY[:99]],
            id="a small caller comes first, in a batch of its own",
        ),
        pytest.param(
            queue_for(100),
            [MANY, ["x99"]],
            [["x99"], MANY[:99]],
            id="a question of two callers comes at the first one's turn",
        ),
        pytest.param(
            queue_for(16),
            [MANY[:16], EACH_64[0][:16]],
            [[*MANY[:8], *EACH_64[0][:8]], [*MANY[8:16], *EACH_64[0][8:16]]],
            id="large callers take turns",
        ),
    ],
)
def test_batches_come_in_this_order(
    queue: FairQueue[str],
    callers: Sequence[Sequence[str] | tuple[str, float]],
    batches: Sequence[Sequence[str]],
) -> None:
    """Callers queue one after another, then all batches are taken."""
    for caller in callers:
        texts, deadline_s = caller if isinstance(caller, tuple) else (caller, 60.0)
        push(queue, texts, deadline_s)

    assert served(queue) == [list(batch) for batch in batches]


def test_a_busy_engine_has_reserved_room_for_small_callers() -> None:
    """While large callers use its whole capacity, one batch more is taken for small ones."""
    queue = queue_for(64)
    push(queue, MANY)
    assert texts_of(queue.pop()) == MANY[:64]
    assert queue.pop() is None

    push(queue, ["one"])
    small = queue.pop()
    assert texts_of(small) == ["one"]
    push(queue, ["two"])
    assert queue.pop() is None, "and no more than that"
    assert small is not None
    queue.finish(small)
    assert texts_of(queue.pop()) == ["two"]


def test_later_callers_do_not_keep_one_from_its_turn() -> None:
    """However many come with a nearer deadline while it waits, a caller gets its share."""
    queue, order = queue_for(1), list[str]()
    for text, deadline_s in (("one", 5.0), ("other", 5.0), ("patient", 60.0)):
        push(queue, [text], deadline_s)

    while len(order) < 40:
        batch = queue.pop()
        order += texts_of(batch)
        assert batch is not None
        queue.finish(batch)
        push(queue, [f"hasty{len(order)}"], 5.0)

    assert "patient" in order[:12]


def test_a_caller_who_leaves_takes_along_only_its_own_questions() -> None:
    """A question that somebody else wants, or that is in a batch already, is not abandoned."""
    queue = queue_for(1)
    push(queue, ["taken"])
    assert texts_of(queue.pop()) == ["taken"]
    leaving = push(queue, ["taken", "shared", "own"])
    push(queue, ["shared"])

    assert sorted(queue.discard(leaving)) == [b"own", b"taken"]
    assert len(queue.entries) == 1
    assert queue.discard(leaving) == []


@given(st.lists(st.integers(QUANTUM + 1, 60), min_size=2, max_size=5), st.integers(1, 40))
def test_large_callers_have_equal_shares(sizes: list[int], batch: int) -> None:
    """After each batch, callers who still wait have been served equally, but for one turn."""
    queue, had = queue_for(batch), Counter[str]()
    wanted = dict(zip("abcde", sizes, strict=False))
    for name, size in wanted.items():
        push(queue, [f"{name}{number}" for number in range(size)])

    for texts in served(queue):
        had.update(text[0] for text in texts)
        waiting = [had[name] for name, size in wanted.items() if had[name] < size]
        assert not waiting or max(waiting) - min(waiting) <= QUANTUM

    assert had == wanted


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.sets(st.integers(0, 40), min_size=1, max_size=20)),
        st.tuples(st.just("discard"), st.integers(0, 9)),
        st.tuples(st.just("pop"), st.none()),
        st.tuples(st.just("finish"), st.integers(0, 9)),
    ),
    max_size=60,
)


@given(STEPS, st.integers(1, 12), st.integers(1, 10), st.none() | st.integers(1, 20))
def test_each_question_that_somebody_wants_is_in_one_batch(
    steps: list[tuple[str, object]], batch: int, concurrency: int, tokens: int | None
) -> None:
    """Whatever callers do, nothing is lost, asked twice, or over the limits."""
    queue = queue_for(batch, tokens=tokens, concurrency=concurrency)
    flows: list[tuple[Flow[str], set[str]]] = []
    running: list[Batch[str]] = []
    waiting: set[str] = set()
    for step, what in steps:
        if isinstance(what, set):
            texts = {f"{'abc'[number % 3]}{number}" for number in what}
            flows.append((push(queue, sorted(texts)), texts))
            waiting |= texts
        elif step == "pop" and (taken := queue.pop()):
            texts = set(taken.questions.values())
            assert texts <= waiting
            assert len(texts) <= batch
            waiting -= texts
            flows = [(flow, wanted - texts) for flow, wanted in flows]
            running.append(taken)
        elif step == "pop":
            assert not waiting or len(running) >= concurrency
        elif isinstance(what, int) and step == "finish" and what < len(running):
            queue.finish(running.pop(what))
        elif isinstance(what, int) and step == "discard" and what < len(flows):
            flow, wanted = flows.pop(what)
            others = set[str]().union(*(other for _, other in flows))
            assert {key.decode() for key in queue.discard(flow)} == wanted - others
            waiting -= wanted - others
        assert len(queue.entries) == len(waiting)
        assert len(running) <= concurrency + max(1, concurrency // 8)
    for taken in running:
        queue.finish(taken)

    assert Counter(text for texts in served(queue) for text in texts) == Counter(waiting)
