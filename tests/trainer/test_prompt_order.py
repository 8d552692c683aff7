"""The order in which prompts are drawn."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward_trainer.data.prompt_order import PromptOrder
from medreward_trainer.errors import BadData


@given(size=st.integers(1, 40), batch=st.integers(1, 40), seed=st.integers(0, 5))
def test_an_epoch_draws_no_prompt_twice(size: int, batch: int, seed: int) -> None:
    """An epoch has as many whole batches as possible."""
    if batch > size:
        with pytest.raises(BadData, match="train_batch_size"):
            PromptOrder(size, batch=batch, shuffle=True, seed=seed)
        return
    order = PromptOrder(size, batch=batch, shuffle=True, seed=seed)

    drawn = [number for _ in range(size // batch) for number in order.take()]

    assert len(set(drawn)) == len(drawn) == size // batch * batch
    assert set(drawn) <= set(range(size))


@given(done=st.integers(0, 12), more=st.integers(1, 6))
def test_drawing_goes_on_from_any_place(done: int, more: int) -> None:
    """The batches after a place do not depend on earlier draws."""
    whole = PromptOrder(11, batch=3, shuffle=True, seed=7)
    for _ in range(done):
        whole.take()
    resumed = PromptOrder(11, batch=3, shuffle=True, seed=7)
    resumed.place = whole.place

    assert [resumed.take() for _ in range(more)] == [whole.take() for _ in range(more)]


def test_epochs_differ_in_their_order() -> None:
    """Without shuffling, all epochs have the same order."""
    order = PromptOrder(16, batch=16, shuffle=True, seed=1)
    plain = PromptOrder(16, batch=16, shuffle=False, seed=1)

    assert order.take() != order.take()
    assert plain.take() == plain.take() == list(range(16))
