"""A service for the while: started in this process, asked over HTTP like any other."""

import logging
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import uvicorn
from pydantic import SecretStr

from medreward.app import create_app
from medreward.cli.environment import read_settings
from medreward.cli.failures import Misuse
from medreward.cli.progress import silence_other_bars
from medreward.http.server import server_config
from medreward.settings import Settings
from medreward.telemetry import logs

LOOPBACK = "127.0.0.1"
STOPS_WITHIN_S = 10.0


class Address(NamedTuple):
    """Where a service listens, and what it wants to see."""

    url: str
    key: str | None


@contextmanager
def temporary_service() -> Iterator[Address]:
    """Start a service on a free loopback port, and stop it afterwards.

    Raises:
        Misuse: a setting is wrong.
        SetupError: a setting names something that does not exist.
    """
    # A key of its own: others on this machine may find the port.
    key = secrets.token_urlsafe()
    settings = read_settings(host=LOOPBACK, api_keys=(SecretStr(key),))
    if settings.role in {"judge", "embed"}:
        raise Misuse(
            f"MEDREWARD_ROLE={settings.role} is a part of a service and scores nothing: unset it, "
            "or name a service with --url"
        )
    log_quietly(settings)
    silence_other_bars()
    app = create_app(settings)
    listener = socket.create_server((LOOPBACK, 0))
    server = uvicorn.Server(server_config(app))
    # In a thread, so that uvicorn leaves the signals of this process alone.
    serving = threading.Thread(
        target=server.run, args=([listener],), name="temporary-service", daemon=True
    )
    serving.start()
    try:
        yield Address(f"http://{LOOPBACK}:{listener.getsockname()[1]}", key)
    finally:
        server.should_exit = True
        serving.join(STOPS_WITHIN_S)
        listener.close()


def log_quietly(settings: Settings) -> None:
    """Log only what went wrong, unless the user asked for more."""
    is_asked_for = "log_level" in settings.model_fields_set
    logs.configure(settings.log_level if is_asked_for else "warning", "console")
    # Whoever waits for the engines tells why they failed, in words of their own.
    logging.getLogger("medreward.engines.supervisor").setLevel(logging.CRITICAL)
