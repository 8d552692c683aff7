"""Embedders: unit vectors, the same whatever the batch."""

import string
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from medreward.engines.embedder import Vector, cosine, is_sound, unit
from medreward.engines.embedders.hashed import HashedEmbedder
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


def saved_model(folder: Path, *, prompt: str | None = None, pooling: str = "mean") -> Path:
    """A sentence-transformers model with random weights and letters for tokens, in a folder."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    torch.manual_seed(1)
    letters = {letter: i for i, letter in enumerate(["[PAD]", "[UNK]", "[CLS]", *string.printable])}
    tokenizer = Tokenizer(models.WordLevel(letters, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $0", None, [("[CLS]", 2)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=64
    ).save_pretrained(folder / "bert")
    config = BertConfig(
        vocab_size=len(letters),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(folder / "bert")
    model = SentenceTransformer(
        modules=[
            modules.Transformer(str(folder / "bert")),
            modules.Pooling(32, pooling),
            modules.Dense(32, 16),
            modules.Normalize(),
        ],
        prompts={"all": prompt} if prompt else None,
        default_prompt_name="all" if prompt else None,
        device="cpu",
    )
    model.save(str(folder / "whole"))
    return folder / "whole"


@pytest.mark.anyio
@pytest.mark.xdist_group("models")
@pytest.mark.parametrize(
    ("options", "is_direct"),
    [
        ({}, True),
        ({"pooling": "cls"}, True),
        ({"pooling": "max"}, True),
        ({"prompt": "q: "}, False),
    ],
)
async def test_vectors_are_those_of_encode(
    tmp_path: Path, options: dict[str, str], is_direct: bool
) -> None:
    """By its modules or, where it has a prompt of its own, by its call: equal to 1e-5."""
    from sentence_transformers import SentenceTransformer

    from medreward.engines.embedders.sentence_transformer import SentenceTransformerEmbedder

    folder = saved_model(tmp_path, **options)
    texts = [*TEXTS, *(f"finding {i} " * (i % 7) for i in range(150))]
    with ThreadPoolExecutor(max_workers=1) as worker:
        embedder = SentenceTransformerEmbedder.load(folder, name="small", worker=worker)
        found = vectors_of(await embedder.embed(texts))

    wanted = SentenceTransformer(str(folder), device="cpu").encode(texts, show_progress_bar=False)
    assert embedder.is_direct is is_direct
    assert np.allclose(np.stack(found), wanted, atol=1e-5)
    assert cosine(found[0], found[1]) < 0.999, "random weights tell texts apart"


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
