"""Whether the event loop still turns, as seen from another thread."""

import asyncio
import time

BEAT_S = 1.0


class Heartbeat:
    """When the event loop had its last turn."""

    def __init__(self) -> None:
        self.last_s = time.monotonic()

    @property
    def silent_s(self) -> float:
        """Seconds since then."""
        return time.monotonic() - self.last_s

    async def beat(self) -> None:
        """Note every turn that comes about a second after the last, until cancelled."""
        while True:
            self.last_s = time.monotonic()
            await asyncio.sleep(BEAT_S)
