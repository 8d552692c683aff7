"""Rate limits of a paid server: requests and tokens a minute, for the whole process."""

import asyncio

from aiolimiter import AsyncLimiter

from medreward.errors import DeadlinePassed

BURST_SHARE = 1 / 6
"""The share of a minute's allowance that may go at once: providers count over windows of their own."""
FIRST_TOKENS_PER_BYTE = 1 / 3
"""A high estimate (English is nearer 1/4) until the first replies report their tokens."""
NEW_WEIGHT = 0.1
"""The weight of one reply in the running mean of tokens a byte."""


class RateLimits:
    """Delays requests to keep the limits, in the order in which they came."""

    def __init__(self, *, requests_per_minute: int | None, tokens_per_minute: int | None) -> None:
        self._requests = _bucket(requests_per_minute)
        self._tokens = _bucket(tokens_per_minute)
        self._tokens_per_byte = FIRST_TOKENS_PER_BYTE
        # The bucket itself lets small requests go first, so a large one could wait for ever. The lock
        # keeps them in order.
        self._order = asyncio.Lock()

    @property
    def burst_tokens(self) -> int | None:
        """The tokens that may go at once; None if tokens are not limited."""
        return None if self._tokens is None else int(self._tokens.max_rate)

    async def wait(self, sent_bytes: int, *, timeout_s: float) -> None:
        """Wait until a request of *sent_bytes* may go.

        Raises:
            DeadlinePassed: its turn does not come within *timeout_s*.
        """
        try:
            async with asyncio.timeout(timeout_s), self._order:
                if self._requests is not None:
                    await self._requests.acquire()
                if self._tokens is not None:
                    await _take(self._tokens, sent_bytes * self._tokens_per_byte)
        except TimeoutError:
            raise DeadlinePassed(
                "the rate limit left no turn within the time-out: raise it, or ask for less"
            ) from None

    def note(self, sent_bytes: int, tokens: int) -> None:
        """Update the tokens a byte by a reply, whose request of *sent_bytes* took *tokens*."""
        if sent_bytes > 0 and tokens > 0:
            error = min(1.0, tokens / sent_bytes) - self._tokens_per_byte
            self._tokens_per_byte += NEW_WEIGHT * error


async def _take(bucket: AsyncLimiter, amount: float) -> None:
    """Acquire *amount*, in several steps if it is more than the bucket holds."""
    while amount > bucket.max_rate:
        await bucket.acquire(bucket.max_rate)
        amount -= bucket.max_rate
    await bucket.acquire(amount)


def _bucket(per_minute: int | None) -> AsyncLimiter | None:
    if per_minute is None:
        return None
    burst = max(1.0, per_minute * BURST_SHARE)
    return AsyncLimiter(burst, 60 * burst / per_minute)
