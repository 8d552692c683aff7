"""Loading with Hugging Face's libraries: our logs instead of theirs, our errors instead of theirs."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging as transformers_logging

from medreward.errors import SetupError


@contextmanager
def loading(role: str, name: str) -> Iterator[None]:
    """Load a model: quietly, and with a failure that says what mends it.

    Raises:
        SetupError: the model cannot be had, or is none.
    """
    _speak_through_our_logs()
    try:
        yield
    except (OSError, ValueError) as exc:
        raise SetupError(
            f"cannot load the {role} {name!r}: {exc}; "
            "`medreward models fetch` brings it where a hub can be reached; "
            f"or name a folder that holds it (MEDREWARD_{role.upper()}_MODEL)"
        ) from exc


def _speak_through_our_logs() -> None:
    """Let their records go to the root logger, in its format, and show no progress bars.

    On import they install handlers of their own.
    """
    transformers_logging.disable_default_handler()
    transformers_logging.enable_propagation()
    transformers_logging.disable_progress_bar()
    hub = logging.getLogger("huggingface_hub")
    hub.handlers.clear()
    hub.propagate = True
