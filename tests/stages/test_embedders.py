"""Embedders: unit vectors, the same whatever the batch."""

import numpy as np
import pytest

from medreward.embedding.embedder import Vector, cosine, is_sound, unit
from medreward.embedding.hashed import HashedEmbedder
from tests.conftest import RealEngines

TEXTS = ["left lower lobe", "right lower lobe", "", "気胸", "a" * 5000, "left lower lobe " * 40]


def vectors_of(answers: object) -> list[Vector]:
    """The answers, all of which have to be vectors."""
    assert isinstance(answers, list)
    assert all(isinstance(answer, np.ndarray) for answer in answers)
    return answers


@pytest.mark.anyio
@pytest.mark.models
async def test_the_batch_does_not_change_a_cosine(real_engines: RealEngines) -> None:
    """Alone or among longer texts, a vector is the same to 1e-4."""
    together = vectors_of(await real_engines.embedder.embed(TEXTS))
    alone = [vectors_of(await real_engines.embedder.embed([text]))[0] for text in TEXTS]

    assert all(is_sound(vector, text) for vector, text in zip(together, TEXTS, strict=True))
    assert [cosine(a, b) for a, b in zip(together, alone, strict=True)] == pytest.approx(
        [1.0] * len(TEXTS), abs=1e-4
    )
    assert cosine(together[0], together[1]) > 0.8, "it cannot see a side: known and documented"


@pytest.mark.anyio
async def test_the_hashed_embedder_sees_letters() -> None:
    """Texts that share letters are near, others are not, and the empty text is like nothing."""
    near, far, same, empty = vectors_of(
        await HashedEmbedder().embed(["effusions", "fracture", "Effusion", ""])
    )
    (effusion,) = vectors_of(await HashedEmbedder().embed(["effusion"]))

    assert cosine(effusion, same) == pytest.approx(1.0)
    assert cosine(effusion, near) > 0.8
    assert cosine(effusion, far) < 0.3
    assert is_sound(empty, "")


@pytest.mark.parametrize(
    "vector",
    [
        np.array([np.nan, 1.0], dtype=np.float32),
        np.array([np.inf, 0.0], dtype=np.float32),
        np.array([3.0, 4.0], dtype=np.float32),
        np.array([[1.0, 0.0]], dtype=np.float32),
        np.array([], dtype=np.float32),
    ],
)
def test_what_is_no_unit_vector_is_nonsense(vector: Vector) -> None:
    """NaN, infinity, another length or shape: none of them can be compared."""
    assert not is_sound(vector, "")


def test_a_vector_is_scaled_to_length_1() -> None:
    """A zero vector stays zero."""
    assert unit(np.array([3.0, 4.0], dtype=np.float32)) == pytest.approx([0.6, 0.8])
    assert unit(np.zeros(2, dtype=np.float32)) == pytest.approx([0.0, 0.0])
