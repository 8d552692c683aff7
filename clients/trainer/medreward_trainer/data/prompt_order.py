"""The order of the prompts: a permutation for each epoch, drawn from a seed, and resumable."""

from dataclasses import dataclass

import torch

from medreward_trainer.errors import BadData


@dataclass(frozen=True, slots=True)
class Place:
    """The position in the data up to which prompts have been drawn."""

    epoch: int = 0
    position: int = 0


class PromptOrder:
    """Draws batches of the numbers below *size*; the rest of an epoch is left out.

    `left_out` is the number of prompts that were too long.

    Raises:
        BadData: a batch is larger than the data.
    """

    def __init__(
        self, size: int, *, batch: int, shuffle: bool, seed: int, left_out: int = 0
    ) -> None:
        if size < batch:
            of_all = f" ({left_out} more are over data.max_prompt_length)" if left_out else ""
            raise BadData(
                f"{size} prompts{of_all} are fewer than a batch of {batch}; lower "
                "data.train_batch_size (or data.gen_batch_size), or give more data"
            )
        self._size, self._batch = size, batch
        self._shuffle, self._seed = shuffle, seed
        self.place = Place()
        self._drawn: tuple[int, list[int]] = (-1, [])

    def take(self) -> list[int]:
        """Return the next batch, from the next epoch if this one has too few left."""
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
                # A separate generator, since the global one draws rollouts.
                generator = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)
                numbers = torch.randperm(self._size, generator=generator).tolist()
            self._drawn = (epoch, numbers)
        return self._drawn[1]
