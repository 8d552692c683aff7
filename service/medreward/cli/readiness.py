"""Waiting for engines: what is said meanwhile, and how long is long enough."""

import time

from medreward.cli.failures import CommandError
from medreward.engines.status import Readiness

LOADING = "loading"


class Patience:
    """Runs out when engines load, or keep silent, for too long.

    Large models come from a hub first, so loading may take long; a remote engine that does not
    answer is more likely away than slow.
    """

    def __init__(self, *, loading_s: float = 1800.0, silence_s: float = 60.0) -> None:
        self._loading_s = loading_s
        self._silence_s = silence_s
        self._began_s = time.monotonic()
        self._silent_since_s: float | None = None

    def check(self, readiness: Readiness) -> None:
        """Say whether it is worth waiting on.

        Raises:
            CommandError: the engines cannot be loaded, or time is up.
        """
        if readiness.status in {"failed", "draining"}:
            raise CommandError(reasons(readiness))
        now_s = time.monotonic()
        if not _is_silent(readiness):
            self._silent_since_s = None
        elif self._silent_since_s is None:
            self._silent_since_s = now_s
        elif now_s - self._silent_since_s > self._silence_s:
            raise CommandError(f"{reasons(readiness)}; start it, or mend its URL in the settings")
        if now_s - self._began_s > self._loading_s:
            raise CommandError(f"still loading after {self._loading_s:.0f} s; its log says more")


def what_is_awaited(readiness: Readiness) -> str:
    """Say what is being loaded, or which engine keeps silent."""
    awaited = [
        f"loading the {role} {state.model}".rstrip()
        if state.message == LOADING
        else f"waiting for the {role}: {state.message}"
        for role, state in readiness.engines.items()
        if not state.ready
    ]
    # The last of them is loaded first.
    return awaited[-1] if awaited else "loading"


def reasons(readiness: Readiness) -> str:
    """Say why the engines are not ready; a reason that both share is said once."""
    said: dict[str, list[str]] = {}
    for role, state in readiness.engines.items():
        if not state.ready and state.message != LOADING:
            said.setdefault(state.message, []).append(role)
    told = "; ".join(f"{' and '.join(roles)}: {message}" for message, roles in said.items())
    return told or f"the service is {readiness.status}"


def _is_silent(readiness: Readiness) -> bool:
    return any(s.message != LOADING for s in readiness.engines.values() if not s.ready)
