"""The share of its time-out that an engine may use.

The batcher gives up a batch when the engine's time-out is over, and then no item of it has an
answer. An engine therefore stops a little earlier: items that were answered by then keep their
answers, and only the others are late.
"""

from typing import Final

from medreward.errors import DeadlinePassed

REMOTE: Final = 0.95
"""Engines behind a server or in another process: requests are cancelled at once, so the rest of the
time has to suffice for reading the replies."""
VLLM: Final = 0.9
"""vLLM, started by this process: requests are aborted in its process before answers are read."""
FORWARD_PASSES: Final = 0.7
"""Models in this process: a forward pass cannot be cancelled, so the last one starts by then, and
has to end within the rest."""


def too_late(timeout_s: float) -> DeadlinePassed:
    """Build the error of a batch, or of the rest of one, that an engine had no time for."""
    return DeadlinePassed(f"its batch could not be finished within {timeout_s:g} s")
