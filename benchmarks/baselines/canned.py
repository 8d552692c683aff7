"""A server that gives one reply to whatever it is sent, so that it is the client that is measured.

The reply is given beforehand, by `PUT /reply`.
"""

from starlette.types import Receive, Scope, Send

_kept = {"reply": b""}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the body, and answer without looking at it."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    if scope["method"] == "PUT":
        _kept["reply"] = body
    reply = _kept["reply"] if scope["method"] == "POST" else b"{}"
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(reply)).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": reply})
