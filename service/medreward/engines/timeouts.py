"""The share of its time-out that an engine may use.

The batcher gives up a batch when the engine's time-out is over, and then no item of it has an
answer. An engine therefore stops a little earlier by itself: items that were answered by then keep
their answers, and only the others are late.
"""

from typing import Final

from medreward.admission import Deadline

REMOTE: Final = 0.95
"""For engines behind a server or in another process: a request is cancelled at once, so what is
left has to suffice for reading the replies."""
VLLM: Final = 0.9
"""For vLLM in this process: requests are aborted in another process before the answers are read."""
FORWARD_PASSES: Final = 0.7
"""For models in this process: a forward pass cannot be cancelled, so this is the time of the last
one's start, and it has to end within the rest."""


def engine_deadline(timeout_s: float, share: float) -> Deadline:
    """Set the moment at which an engine stops by itself."""
    return Deadline.after(share * timeout_s)
