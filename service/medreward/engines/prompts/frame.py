"""The frame of a prompt: the text of a chat template around the user's turn."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PromptFrame:
    """The text that a model's chat template writes around the user's turn."""

    before: str
    after: str

    @property
    def sha(self) -> str:
        """A short digest, for identities."""
        return hashlib.sha256(repr((self.before, self.after)).encode()).hexdigest()[:8]
