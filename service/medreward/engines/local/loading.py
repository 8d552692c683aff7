"""Loading with Hugging Face's libraries, with their logs and errors translated into ours."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging as transformers_logging

from medreward.errors import SetupError


@contextmanager
def loading(role: str, name: str) -> Iterator[None]:
    """Translate the logs and errors of a model that is loaded inside.

    Raises:
        SetupError: the model cannot be found or loaded; the message names the remedies.
    """
    # The libraries install handlers of their own on import; their records go to the root logger.
    transformers_logging.disable_default_handler()
    transformers_logging.enable_propagation()
    transformers_logging.disable_progress_bar()
    hub = logging.getLogger("huggingface_hub")
    hub.handlers.clear()
    hub.propagate = True
    try:
        yield
    except (OSError, ValueError) as exc:
        raise SetupError(
            f"cannot load the {role} {name!r}: {exc}; "
            "`medreward models fetch` brings it where a hub can be reached; "
            f"or name a folder that holds it (MEDREWARD_{role.upper()}_MODEL)"
        ) from exc
