"""The HTTP client for servers of OpenAI's chat protocol; no other module imports httpx.

An error's body may quote the question, so messages contain only the status and the error's code
or type.
"""

import asyncio
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Any, Final, Self

import httpx
import orjson

from medreward_client.jsonl import object_in
from medreward_client.pauses import retry_after_s
from medreward_client.proxies import proxy_for, shown
from medreward_eval.errors import OF_ONE_ITEM, Failed
from medreward_eval.records import Failure

CONNECT_TIMEOUT_S: Final = 10.0
MODELS_TIMEOUT_S: Final = 30.0
MODELS_SHOWN: Final = 20
LAST_PORT: Final = 65_535
VARIABLES: Final = frozenset(
    {"ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "SSL_CERT_DIR", "SSL_CERT_FILE"}
)
"""Variables of the environment, in any case, that a client is made by."""
MOST_REPLY_BYTES: Final = 64 << 20
"""Bytes of one reply: a response has some kilobytes, and thinking some hundred."""

BUSY: Final = frozenset(
    {
        HTTPStatus.CONFLICT,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
    }
)
"""Transient statuses, which do not depend on the question."""
TOOK_TOO_LONG: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.GATEWAY_TIMEOUT})
"""Statuses of a proxy whose timeout is shorter than ours."""
ADVICE: Final[Mapping[int, str]] = {
    HTTPStatus.UNAUTHORIZED: "give its API key",
    HTTPStatus.FORBIDDEN: "the API key may not use this model",
    HTTPStatus.NOT_FOUND: (
        "there is no such model, or no such address: a base URL mostly ends in /v1"
    ),
}
TOO_LONG: Final = re.compile(
    rb"context[ _](?:length|size|window)|exceed_context|prompt is too long|max_new_tokens",
    re.IGNORECASE,
)
"""Phrases of vLLM, SGLang, llama.cpp, OpenAI and TGI for a question that exceeds the context."""
FILTERED: Final = re.compile(
    r"content_?filter|content_?policy|responsible_?ai|data_?inspection|moderation|guardrail|safety",
    re.IGNORECASE,
)
"""Parts of types and codes of a filter that refuses a question."""
NOT_TAKEN: Final[Mapping[str, str]] = {
    "max_tokens": '{"max_tokens": null, "max_completion_tokens": 2048}',
    "temperature": '{"temperature": null}',
    "top_p": '{"top_p": null}',
}
"""The value of `--extra` that leaves out a parameter which not every model takes."""

_NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)


class NotAnswered(Exception):
    """A request without a completion.

    NotAnswered
    ├── Refused   a retry would fail, too
    ├── Broke     the server began and failed; a retry may succeed
    └── Away      the server is gone or busy and did not begin; has retry_after_s
    """

    def __init__(self, kind: str, message: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.trouble = Failure(kind, message, retryable=not isinstance(self, Refused))
        self.retry_after_s = retry_after_s


class Refused(NotAnswered):
    """The server refuses this question for good."""


class Broke(NotAnswered):
    """The server accepted the request and did not complete it."""


class Away(NotAnswered):
    """The server cannot be reached, or accepts no requests now."""


class ChatServer:
    """A server's `/chat/completions`, for one model; open it by `async with`.

    Opening it requests `/models`, so a missing server fails at once. If no *model* is named, the
    only one served is taken.

    Raises:
        ValueError: *base_url*, *api_key*, or a proxy of the environment is invalid.
        Failed: on opening, the server cannot be reached, refuses the key, or serves several models
            while none is named.
    """

    def __init__(
        self, base_url: str, *, api_key: str | None = None, model: str | None = None
    ) -> None:
        url = _checked(base_url)
        self.model = model or ""
        # Host and port only: a URL may contain a password.
        self._server = url.netloc.decode()
        headers = {"Content-Type": "application/json"} | _authorization(api_key)
        with _checked_environment():
            proxy = proxy_for(base_url)
            self._server += shown(proxy)
            self._http = httpx.AsyncClient(
                # httpx logs the URL of each request, so a password must not be part of it.
                base_url=url.copy_with(userinfo=b""),
                auth=(url.username, url.password) if url.userinfo else None,
                headers=headers,
                # The library would read NO_PROXY itself, and fail at networks of IPv6. Without the
                # environment it reads no certificates of it either, unless they are made here.
                trust_env=False,
                proxy=proxy,
                verify=httpx.create_ssl_context(),
                # `_send` has one timeout for the whole request, and the caller bounds concurrency:
                # the library's own limits are off.
                timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
            )

    async def __aenter__(self) -> Self:
        try:
            await self._find_model()
        except BaseException:
            await self._http.aclose()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._http.aclose()

    async def complete(self, body: Mapping[str, Any], *, timeout_s: float) -> dict[str, Any]:
        """Send a request's body, and return the server's reply unchanged.

        Raises:
            Refused: the server refuses this question.
            Broke: the reply did not come in time, or is not valid.
            Away: the server is gone, or busy.
            Failed: the server refuses every question.
        """
        content = orjson.dumps(body)
        status, headers, told = await self._send("POST", "chat/completions", content, timeout_s)
        if status != HTTPStatus.OK:
            raise self._not_answered(status, headers, told)
        reply = object_in(told)
        if reply is None:
            raise Broke("bad_reply", f"{self._server} sent something that is no JSON object")
        return reply

    async def _find_model(self) -> None:
        try:
            status, headers, told = await self._send("GET", "models", None, MODELS_TIMEOUT_S)
        except NotAnswered as exc:
            raise Failed(f"{exc}; is the model's server running, and is this its URL?") from exc
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise self._not_answered(status, headers, told)
        if self.model:
            return
        served = _models_in(told) if status == HTTPStatus.OK else []
        if not served:
            raise Failed(f"{self._server} does not say what it serves ({status}); name the model")
        if len(served) > 1:
            more = "" if len(served) <= MODELS_SHOWN else f", and {len(served) - MODELS_SHOWN} more"
            listed = ", ".join(served[:MODELS_SHOWN])
            raise Failed(f"{self._server} serves several models; name one of {listed}{more}")
        self.model = served[0]

    async def _send(
        self, method: str, path: str, content: bytes | None, timeout_s: float
    ) -> tuple[int, httpx.Headers, bytes]:
        with _translated_errors(self._server, timeout_s):
            async with (
                asyncio.timeout(timeout_s),
                self._http.stream(method, path, content=content) as response,
            ):
                told = bytearray()
                async for chunk in response.aiter_bytes():
                    told += chunk
                    if len(told) > MOST_REPLY_BYTES:
                        raise Broke("bad_reply", f"{self._server} sent more than can be a reply")
                return response.status_code, response.headers, bytes(told)

    def _not_answered(self, status: int, headers: httpx.Headers, told: bytes) -> Exception:
        """Return the exception for a status other than 200: refused, broken, away or failed."""
        error = _error_in(told)
        said = f"{self._server} said {_described(status, error)}"
        # Some filters answer 403, which would else end the run.
        is_filtered = any(FILTERED.search(name) for name in _codes(error))
        if status in OF_ONE_ITEM or (is_filtered and status == HTTPStatus.FORBIDDEN):
            return _refused(said, told, error, is_filtered=is_filtered)
        if status in BUSY:
            return Away("unavailable", said, retry_after_s=retry_after_s(headers, otherwise=0.0))
        if status in TOOK_TOO_LONG:
            return Broke("timeout", said)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return Broke("server_error", said)
        return Failed(f"{said}: {ADVICE.get(status, 'this is no server of chat completions')}")


@contextmanager
def _translated_errors(server: str, timeout_s: float) -> Iterator[None]:
    """Convert httpx exceptions of requests to *server* to those of this module."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as exc:
        raise Away("unavailable", f"{server} cannot be reached") from exc
    except (httpx.TimeoutException, TimeoutError) as exc:
        raise Broke("timeout", f"{server} did not answer within {timeout_s:g} s") from exc
    except httpx.HTTPError as exc:
        told = f"the connection to {server} broke ({type(exc).__name__})"
        raise Broke("connection_lost", told) from exc


@contextmanager
def _checked_environment() -> Iterator[None]:
    """Name the variables that a client is made by, if they cannot be used."""
    try:
        yield
    except (httpx.InvalidURL, ValueError, ImportError, OSError) as exc:
        named = ", ".join(name for name in sorted(os.environ) if name.upper() in VARIABLES)
        raise ValueError(
            f"a proxy or certificate of the environment cannot be used: see to {named} "
            f"({type(exc).__name__}: {getattr(exc, 'strerror', None) or exc})"
        ) from exc


def _checked(base_url: str) -> httpx.URL:
    with suppress(httpx.InvalidURL):
        url = httpx.URL(base_url)
        is_address = url.scheme in ("http", "https") and url.host and (url.port or 0) <= LAST_PORT
        if is_address and not (url.query or url.fragment):
            return url
    raise ValueError(
        "--server (OPENAI_BASE_URL): the model's server must be like http://localhost:8000/v1"
    )


def _authorization(api_key: str | None) -> dict[str, str]:
    if api_key is None:
        return {}
    # A key read from a file often ends in a line break. The library's error would show the key.
    if not (api_key.isascii() and api_key.isprintable() and api_key):
        raise ValueError(
            "--server-key (OPENAI_API_KEY): the API key of the model's server must be one line of ASCII"
        )
    return {"Authorization": f"Bearer {api_key}"}


def _models_in(told: bytes) -> list[str]:
    listed = (object_in(told) or {}).get("data")
    if not isinstance(listed, list):
        return []
    names = (one.get("id") for one in listed if isinstance(one, dict))
    return [name for name in names if isinstance(name, str)]


def _refused(said: str, told: bytes, error: Mapping[str, Any], *, is_filtered: bool) -> Refused:
    if is_filtered:
        return Refused("content_filter", f"a content filter refuses the question: {said}")
    if TOO_LONG.search(told):
        return Refused("context_length", f"too long for the model: {said}")
    extra = NOT_TAKEN.get(_parameter(error) or "")
    advice = f"; if the model does not take it, give --extra '{extra}'" if extra else ""
    return Refused("refused", said + advice)


def _error_in(told: bytes) -> Mapping[str, Any]:
    body = object_in(told) or {}
    nested = body.get("error")
    return nested if isinstance(nested, dict) else body


def _described(status: int, error: Mapping[str, Any]) -> str:
    """Format a status with the names in the server's error; free text is left out."""
    names = sorted(_codes(error) - {str(status)})
    if (parameter := _parameter(error)) is not None:
        names.append(f"param {parameter}")
    return f"{status} ({', '.join(names)})" if names else str(status)


def _codes(error: Mapping[str, Any]) -> set[str]:
    return {name for key in ("type", "code") if (name := name_of(error.get(key))) is not None}


def _parameter(error: Mapping[str, Any]) -> str | None:
    """Return the parameter that an error is about: OpenAI's `param`, or the last part of `loc`."""
    detail = error.get("detail")
    first = detail[0] if isinstance(detail, list) and detail else None
    location = first.get("loc") if isinstance(first, dict) else None
    told = error.get("param") or (location[-1] if isinstance(location, list) and location else None)
    return name_of(told)


def name_of(told: object) -> str | None:
    """Return *told* if it is a short identifier, which cannot quote a question; otherwise None."""
    name = str(told) if isinstance(told, str | int) else ""
    return name if _NAME.fullmatch(name) else None
