"""All that is known of the HTTP library, and of servers that speak as OpenAI's does.

What a server says of an error may quote the question, so nothing of it is told but its status and
the words by which it names the error.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Any, Final, Self

import httpx
import orjson

from medreward_client.jsonl import object_in
from medreward_client.pauses import retry_after_s
from medreward_eval.errors import Failed
from medreward_eval.records import Failure

CONNECT_TIMEOUT_S: Final = 10.0
MODELS_TIMEOUT_S: Final = 30.0
MODELS_SHOWN: Final = 20
MOST_REPLY_BYTES: Final = 64 << 20
"""Of one reply: a response is some kilobytes, and thinking some hundred."""

REFUSED: Final = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    }
)
"""Statuses that a question may bring on itself."""
BUSY: Final = frozenset(
    {
        HTTPStatus.CONFLICT,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
    }
)
"""Statuses that pass, whatever the question."""
TOOK_TOO_LONG: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.GATEWAY_TIMEOUT})
"""Statuses of whoever stands before the server, and waits for less long than we do."""
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
"""How vLLM, SGLang, llama.cpp, OpenAI and TGI say that a question does not fit."""

_NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)


class NotAnswered(Exception):
    """Why a request brought no completion.

    NotAnswered
    ├── Refused   it will bring none
    ├── Broke     it may bring one: it was taken on, and came to nothing
    └── Away      it was not taken on: the server is gone, or busy; carries retry_after_s
    """

    def __init__(self, kind: str, message: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.trouble = Failure(kind, message, retryable=not isinstance(self, Refused))
        self.retry_after_s = retry_after_s


class Refused(NotAnswered):
    """The server will not answer this question."""


class Broke(NotAnswered):
    """The server began, and did not end."""


class Away(NotAnswered):
    """The server cannot be reached, or takes nothing on now."""


class ChatServer:
    """A server's `/chat/completions`, for one model; open it by `async with`.

    Opening it asks for `/models`. So it is known at once whether the server is there, and where no
    *model* is named, the one that it serves is taken.

    Raises:
        ValueError: *base_url* or *api_key* cannot be.
        Failed: on opening, if the server cannot be reached, lets us not in, or serves several
            models of which none is named.
    """

    def __init__(
        self, base_url: str, *, api_key: str | None = None, model: str | None = None
    ) -> None:
        url = _checked(base_url)
        self.model = model or ""
        # Host and port alone: a URL may hold a password.
        self._server = url.netloc.decode()
        self._http = httpx.AsyncClient(
            # The library logs the address of each request.
            base_url=url.copy_with(userinfo=b""),
            auth=(url.username, url.password) if url.userinfo else None,
            headers={"Content-Type": "application/json"} | _authorization(api_key),
            # How long a request may take is bounded as a whole, and how many there are by us.
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
        """Send what is asked, and give the server's reply as it came.

        Raises:
            Refused: it will not answer this.
            Broke: it gave no reply in time, or one that is none.
            Away: it is gone, or busy.
            Failed: it refuses whatever is asked.
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
        with _reaching(self._server, timeout_s):
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
        """Sort what is no completion by what is to be done about it."""
        said = f"{self._server} said {_in_words(status, told)}"
        if status in REFUSED:
            if TOO_LONG.search(told):
                return Refused("context_length", f"too long for the model: {said}")
            return Refused("refused", said)
        if status in BUSY:
            return Away("unavailable", said, retry_after_s=retry_after_s(headers, otherwise=0.0))
        if status in TOOK_TOO_LONG:
            return Broke("timeout", said)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return Broke("server_error", said)
        return Failed(f"{said}: {ADVICE.get(status, 'this is no server of chat completions')}")


@contextmanager
def _reaching(server: str, timeout_s: float) -> Iterator[None]:
    """Give the library's failures our names while talking to *server*."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as exc:
        raise Away("unavailable", f"{server} cannot be reached") from exc
    except (httpx.TimeoutException, TimeoutError) as exc:
        raise Broke("timeout", f"{server} did not answer within {timeout_s:g} s") from exc
    except httpx.HTTPError as exc:
        told = f"the connection to {server} broke ({type(exc).__name__})"
        raise Broke("connection_lost", told) from exc


def _checked(base_url: str) -> httpx.URL:
    with suppress(httpx.InvalidURL):
        url = httpx.URL(base_url)
        if url.scheme in ("http", "https") and url.host and not (url.query or url.fragment):
            return url
    raise ValueError("the model's server must be like http://localhost:8000/v1")


def _authorization(api_key: str | None) -> dict[str, str]:
    if api_key is None:
        return {}
    # A key from a file ends in a line break; the library's own error would show the key.
    if not (api_key.isascii() and api_key.isprintable() and api_key):
        raise ValueError("the API key of the model's server must be one line of ASCII")
    return {"Authorization": f"Bearer {api_key}"}


def _models_in(told: bytes) -> list[str]:
    listed = (object_in(told) or {}).get("data")
    if not isinstance(listed, list):
        return []
    names = (one.get("id") for one in listed if isinstance(one, dict))
    return [name for name in names if isinstance(name, str)]


def _in_words(status: int, told: bytes) -> str:
    """Tell a status, and what the server calls the error; what could be a text is left out."""
    body = object_in(told) or {}
    nested = body.get("error")
    error = nested if isinstance(nested, dict) else body
    names = {name_of(error.get(key)) for key in ("type", "code")} - {None, str(status)}
    return f"{status} ({', '.join(sorted(map(str, names)))})" if names else str(status)


def name_of(told: object) -> str | None:
    """Give what names something, if it can be no more than that."""
    name = str(told) if isinstance(told, str | int) else ""
    return name if _NAME.fullmatch(name) else None
