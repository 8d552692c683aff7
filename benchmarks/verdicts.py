"""What the stand-in's models say: decided by a hash, so that every way of asking gives the same."""

import hashlib
import json
import re

import numpy as np
import numpy.typing as npt

DIMENSIONS = 1024
"""As many as MedEmbed-large has."""
LIKELY = 0.95

_OURS = re.compile(r'^(reference|candidate): (".*")$', re.MULTILINE)
_PUBLISHED = re.compile(r"^(Ground Truth|Predicted Answer): (.*)$", re.MULTILINE)


def says_yes(answer: str, reference: str) -> bool:
    """Whether the stand-in's judge takes *answer* for the same as *reference*."""
    return hashlib.sha256(f"{answer}\0{reference}".encode()).digest()[0] % 2 == 0


def p_yes(prompt: str) -> float:
    """P(YES) for a prompt of the service, or of the published reward."""
    fields = {name: json.loads(text) for name, text in _OURS.findall(prompt)}
    if not fields:
        names = {"Ground Truth": "reference", "Predicted Answer": "candidate"}
        fields = {names[name]: text for name, text in _PUBLISHED.findall(prompt)}
    is_yes = says_yes(fields.get("candidate", ""), fields.get("reference", prompt))
    return LIKELY if is_yes else 1 - LIKELY


def probabilities(prompt: str) -> dict[str, float]:
    """How likely each token is to come next."""
    yes = p_yes(prompt)
    sides = {"YES": 0.9 * yes, "NO": 0.9 * (1 - yes), "Yes": 0.06 * yes, "No": 0.06 * (1 - yes)}
    return sides | {"yes": 0.02 * yes, "no": 0.02 * (1 - yes), "The": 0.02}


def vector(text: str) -> npt.NDArray[np.float32]:
    """A vector of unit length; those of different texts are nearly at right angles."""
    noise = np.frombuffer(hashlib.shake_256(text.encode()).digest(DIMENSIONS), dtype=np.uint8)
    centred = noise.astype(np.float32) - 127.5
    return (centred / np.linalg.norm(centred)).astype(np.float32)
