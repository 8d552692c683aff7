"""Logging as it was before, after a test has let the program configure it for the whole process."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import structlog


def log_settings() -> dict[str, object]:
    """Return what decides whether a record of ours is seen: the root's handlers, and the loggers'."""
    root = logging.getLogger()
    ours = {
        name: (one.level, one.propagate, one.disabled)
        for name, one in _loggers()
        if name.startswith("medreward")
    }
    # A logger that appeared since then, with nothing set, is no difference.
    changed = {
        name: found for name, found in ours.items() if found != (logging.NOTSET, True, False)
    }
    return changed | {"root": (root.level, root.disabled, root.handlers[:], root.manager.disable)}


@contextmanager
def logging_restored() -> Iterator[None]:
    """Put back handlers, levels and structlog's configuration."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    before = {name: (one.level, one.propagate, one.handlers[:]) for name, one in _loggers()}
    configuration = structlog.get_config() if structlog.is_configured() else None
    try:
        yield
    finally:
        root.handlers = handlers
        root.setLevel(level)
        for name, logger in _loggers():
            level_before, logger.propagate, logger.handlers = before.get(name, (0, True, []))
            logger.setLevel(level_before)
        logging.captureWarnings(capture=False)
        if configuration is None:
            structlog.reset_defaults()
        else:
            structlog.configure(**configuration)
        for name, module in list(sys.modules.items()):
            if name.startswith("medreward.") and hasattr(module, "log"):
                # A logger that has been used keeps what was configured then.
                vars(module.log).pop("bind", None)


def _loggers() -> list[tuple[str, logging.Logger]]:
    known = logging.Logger.manager.loggerDict.items()
    return [(name, logger) for name, logger in known if isinstance(logger, logging.Logger)]
