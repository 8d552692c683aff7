"""How fast a paid server may be asked: requests and tokens a minute, for the whole process."""

import asyncio

from aiolimiter import AsyncLimiter

from medreward.errors import DeadlinePassed

BURST_SHARE = 1 / 6
"""Of a minute's allowance, what may go at once: providers count over windows of their own."""
FIRST_TOKENS_PER_BYTE = 1 / 3
"""English is nearer 1/4; rather too many until the first replies tell."""
WEIGHT_OF_NEWS = 0.1


class RateLimits:
    """Makes each request wait for its turn."""

    def __init__(self, *, requests_per_minute: int | None, tokens_per_minute: int | None) -> None:
        self._requests = _bucket(requests_per_minute)
        self._tokens = _bucket(tokens_per_minute)
        self._tokens_per_byte = FIRST_TOKENS_PER_BYTE

    async def wait(self, sent_bytes: int, *, timeout_s: float) -> None:
        """Wait until a request of *sent_bytes* may go.

        Raises:
            DeadlinePassed: its turn does not come within *timeout_s*.
        """
        try:
            async with asyncio.timeout(timeout_s):
                if self._requests is not None:
                    await self._requests.acquire()
                if self._tokens is not None:
                    tokens = sent_bytes * self._tokens_per_byte
                    # More than the bucket holds can only wait for a full one.
                    await self._tokens.acquire(min(tokens, self._tokens.max_rate))
        except TimeoutError:
            raise DeadlinePassed(
                "the rate limit left no turn within the time-out: raise it, or ask for less"
            ) from None

    def note(self, sent_bytes: int, tokens: int) -> None:
        """Learn from a reply how many tokens a request of *sent_bytes* was."""
        if sent_bytes > 0 and tokens > 0:
            news = min(1.0, tokens / sent_bytes) - self._tokens_per_byte
            self._tokens_per_byte += WEIGHT_OF_NEWS * news


def _bucket(per_minute: int | None) -> AsyncLimiter | None:
    if per_minute is None:
        return None
    burst = max(1.0, per_minute * BURST_SHARE)
    return AsyncLimiter(burst, 60 * burst / per_minute)
