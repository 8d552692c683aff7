"""In which order prompts are drawn: a permutation an epoch, from a seed; resumable."""

from dataclasses import dataclass

import torch

from medreward_trainer.errors import BadData


@dataclass(frozen=True, slots=True)
class Place:
    """How far the data has been drawn."""

    epoch: int = 0
    position: int = 0


class PromptOrder:
    """Draws the numbers below *size*, so many at a time.

    What is left of an epoch and is no whole batch is left out.

    Raises:
        BadData: a batch is larger than the data.
    """

    def __init__(self, size: int, *, batch: int, shuffle: bool, seed: int) -> None:
        if size < batch:
            raise BadData(
                f"{size} prompts are fewer than a batch of {batch}; lower data.train_batch_size "
                "(or data.gen_batch_size), or give more data"
            )
        self._size, self._batch = size, batch
        self._shuffle, self._seed = shuffle, seed
        self.place = Place()
        self._drawn: tuple[int, list[int]] = (-1, [])

    @property
    def batches_an_epoch(self) -> int:
        """Whole batches."""
        return self._size // self._batch

    def take(self) -> list[int]:
        """Draw the next batch."""
        place = self.place
        if place.position + self._batch > self._size:
            place = Place(place.epoch + 1)
        end = place.position + self._batch
        self.place = Place(place.epoch, end)
        return self._permutation(place.epoch)[place.position : end]

    def _permutation(self, epoch: int) -> list[int]:
        if self._drawn[0] != epoch:
            numbers = list(range(self._size))
            if self._shuffle:
                # A generator of its own: the global one draws rollouts.
                generator = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)
                numbers = torch.randperm(self._size, generator=generator).tolist()
            self._drawn = (epoch, numbers)
        return self._drawn[1]
