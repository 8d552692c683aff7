"""The frame of a prompt: the tokens around what an inquiry says."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Frame:
    """What a model's chat template writes around the user's turn."""

    before: str
    after: str

    @property
    def sha(self) -> str:
        """A short digest, for identities."""
        return hashlib.sha256(repr((self.before, self.after)).encode()).hexdigest()[:8]
