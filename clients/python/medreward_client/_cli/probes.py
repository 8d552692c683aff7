"""Probes of an address: names, ports and HTTP, without the client.

The standard library's HTTP takes proxies from the environment, as the client's does, and reports
more about failures below HTTP than an everyday client should.
"""

import http.client
import json
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MOST_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    took_ms: float

    @property
    def said(self) -> Any:
        """The body, if it is JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def is_page(self) -> bool:
        """True for a web page."""
        return "html" in self.headers.get("Content-Type", "") or self.body[:1] == b"<"

    @property
    def server(self) -> str:
        """The server that the response names."""
        name = self.headers.get("Server", "")
        return f" by {name}" if name else ""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Follow no redirect, as the client follows none."""


def ask(url: str, *, api_key: str | None = None, timeout_s: float) -> Answer:
    """Send a GET; OSError or HTTPException if it fails below HTTP."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - http or https: checked
    opener = urllib.request.build_opener(_NoRedirect)
    began_s = time.perf_counter()
    try:
        with opener.open(request, timeout=timeout_s) as reply:
            return _answer(reply.status, reply, began_s)
    except urllib.error.HTTPError as exc:
        with exc:
            return _answer(exc.code, exc, began_s)
    except urllib.error.URLError as exc:
        # The cause is its `reason`, not its `__cause__`.
        raise exc.reason if isinstance(exc.reason, OSError) else OSError(str(exc.reason)) from exc


def _answer(status: int, reply: Any, began_s: float) -> Answer:
    body = reply.read(MOST_BYTES)
    return Answer(status, reply.headers, body, 1000 * (time.perf_counter() - began_s))


def addresses_of(host: str, port: int) -> list[str]:
    """Resolve a name; OSError or UnicodeError if it has no address."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def connect_ms(host: str, port: int, timeout_s: float) -> float:
    """Open and close a connection, and return the time it took; OSError if it fails."""
    began_s = time.perf_counter()
    with socket.create_connection((host, port), timeout_s):
        return 1000 * (time.perf_counter() - began_s)


def speaks_tls(host: str, port: int, timeout_s: float) -> bool:
    """Return True if a port completes a TLS handshake, with any certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), timeout_s) as plain:
            context.wrap_socket(plain, server_hostname=host).close()
    except OSError:
        return False
    return True


def speaks_plain_http(host: str, port: int, timeout_s: float) -> bool:
    """Return True if a port speaks HTTP without TLS."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", "/livez")
        connection.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, its cause, the cause of that, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
