"""SIGTERM and Ctrl-C: the first ends a run with a checkpoint, the second at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from medreward_trainer.run.retry import IsStopping

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stoppable() -> Iterator[IsStopping]:
    """Yield a function that returns true after the first signal; the second one interrupts."""
    asked = False

    def ask(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    before = {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
