"""MediX-R1's second question, as it is put in a trainer: two texts at a time, in this process."""

from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from transformers.utils import logging

from baselines.medix_r1 import Embed

THRESHOLD = 0.80


def load(model: Path, threads: int) -> Embed:
    """Load a model onto the CPU, for *threads* of torch."""
    logging.disable_progress_bar()
    torch.set_num_threads(threads)
    encoder = SentenceTransformer(str(model), device="cpu")

    def is_near(answer: str, reference: str) -> float:
        one, other = encoder.encode([answer, reference], show_progress_bar=False)
        cosine = one @ other / (np.linalg.norm(one) * np.linalg.norm(other))
        return float(cosine >= THRESHOLD)

    return is_near
