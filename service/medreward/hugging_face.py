"""Keeping Hugging Face's libraries to our logs: on import they install handlers of their own."""

import logging

from transformers.utils import logging as transformers_logging


def speak_through_our_logs() -> None:
    """Let their records go to the root logger, in its format, and show no progress bars."""
    transformers_logging.disable_default_handler()
    transformers_logging.enable_propagation()
    transformers_logging.disable_progress_bar()
    hub = logging.getLogger("huggingface_hub")
    hub.handlers.clear()
    hub.propagate = True
