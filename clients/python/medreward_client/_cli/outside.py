"""Checks from outside a service: its address, name, port, HTTP, and identity."""

import http.client
import re
import ssl
from contextlib import suppress
from http import HTTPStatus

from medreward_client._cli.case import DEFAULT_PORTS, USUAL_PORT, Case, Ill, Odd
from medreward_client._cli.probing import (
    Answer,
    addresses_of,
    ask,
    connect_ms,
    speaks_plain_http,
    speaks_tls,
)

ROUTES = ("/reward", "/judge", "/livez", "/readyz", "/version", "/recipes", "/metrics", "/docs")
GATEWAY_TROUBLE = (
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)


def look_at_url(case: Case) -> str | Odd:
    """Check that the URL is valid, and is the service's without a route."""
    example = f"give one such as http://rewards:{USUAL_PORT}"
    if re.search(r"\s", case.url):
        raise Ill("the URL holds white space", "take it out, and quote the URL in the shell")
    if "://" not in case.url:
        raise Ill(f"{case.url} does not begin with http://", f"give http://{case.url}")
    try:
        scheme, host, _ = case.parts.scheme, case.host, case.parts.port
    except ValueError:
        raise Ill("the URL has no port that can be read", example) from None
    if scheme not in DEFAULT_PORTS:
        raise Ill(f"the URL begins with {scheme}://, not http:// or https://", example)
    if not host:
        raise Ill("the URL names no host", example)
    if "@" in case.parts.netloc:
        raise Ill(
            "the URL holds a user or a password, and medreward knows neither",
            "leave out what stands before the @; a key goes into MEDREWARD_API_KEY",
        )
    if case.parts.query or case.parts.fragment:
        raise Ill("the URL goes on after a ? or #", f"give {case.root}")
    return _path_of(case)


def _path_of(case: Case) -> str | Odd:
    path = case.parts.path.rstrip("/")
    if path.endswith(ROUTES):
        raise Ill(
            f"the URL ends in {path}; the client adds the route by itself",
            f"give {case.base[: case.base.rindex('/')]}",
        )
    if path:
        return Odd(f"{case.base}; requests go to {path}/reward", "fine behind a gateway")
    if case.parts.port is None:
        return Odd(
            f"{case.base} names no port, which means {case.port}",
            f"if it does not answer there: medreward's own is {USUAL_PORT}",
        )
    return case.base


def look_at_proxy(case: Case) -> str | Odd:
    """Check for a proxy in the environment."""
    if case.proxy is None:
        return "none; requests go straight to the service"
    host, port = case.next_hop
    return Odd(
        f"the environment sends requests through {host}:{port}",
        f"if the service is in your own network: export NO_PROXY={case.host}",
    )


def look_at_name(case: Case) -> str:
    """Resolve the name of the host."""
    host, port = case.next_hop
    try:
        found = addresses_of(host, port)
    except (OSError, UnicodeError):
        raise Ill(
            f"no address is known for {host}",
            "check the spelling; names of containers and of Kubernetes services are known only "
            f"inside their own network{case.way_around}",
        ) from None
    if found == [host]:
        return f"{host} is an address"
    return f"{host} is {', '.join(found)}"


def look_at_port(case: Case) -> str:
    """Check that the port accepts connections."""
    host, port = case.next_hop
    try:
        took_ms = connect_ms(host, port, case.timeout_s)
    except ConnectionRefusedError:
        raise Ill(
            f"nobody listens on port {port} of {host}",
            "check the port, and that the service runs; in a container it must listen on "
            f"0.0.0.0, and the port be published (medreward's own is {USUAL_PORT}){case.way_around}",
        ) from None
    except TimeoutError:
        raise Ill(
            f"no word from {host}:{port} in {case.timeout_s:g} s",
            "the host is down, or a firewall or security group swallows the connection"
            f"{case.way_around}",
        ) from None
    except OSError as exc:
        raise Ill(
            f"{host}:{port} cannot be reached: {exc.strerror or exc}",
            "check that this machine is in the service's network (a VPN, perhaps)",
        ) from None
    return f"{port} is open ({took_ms:.1f} ms)"


def look_at_http(case: Case) -> str:
    """Check that the port speaks HTTP, with or without TLS according to the address."""
    try:
        answer = case.liveness
    except TimeoutError:
        raise Ill(
            f"the port accepts connections, and then says nothing for {case.timeout_s:g} s",
            "something else may listen there, or the service hangs: look at its log",
        ) from None
    except (OSError, http.client.HTTPException) as exc:
        raise _no_http(case, exc) from exc
    return f"HTTP {answer.status} in {answer.took_ms:.1f} ms"


def _no_http(case: Case, error: Exception) -> Ill:
    host, port, scheme = case.host, case.port, case.parts.scheme
    if case.proxy is not None:
        return Ill(
            f"nothing comes back through the proxy: {type(error).__name__}",
            f"if the service is in your own network: export NO_PROXY={host}",
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        return Ill(
            f"the certificate of {host} is not trusted: {error.verify_message}",
            "let SSL_CERT_FILE name the file of your organisation's certificates, or use the name "
            "that the certificate is for",
        )
    if scheme == "https" and speaks_plain_http(host, port, case.timeout_s):
        return Ill("the port speaks plain HTTP, not TLS", f"give http://{case.parts.netloc}")
    if scheme == "http" and speaks_tls(host, port, case.timeout_s):
        return Ill("the port speaks TLS, not plain HTTP", f"give https://{case.parts.netloc}")
    return Ill(
        f"what listens there does not speak HTTP ({type(error).__name__})",
        f"check the port; medreward's own is {USUAL_PORT}",
    )


def look_at_service(case: Case) -> str:
    """Check that the responding server is medreward."""
    answer = case.liveness
    if answer.status == HTTPStatus.OK and _is_alive(answer):
        return "it is medreward"
    if 300 <= answer.status < 400:  # noqa: PLR2004 - redirects
        raise Ill(
            f"it redirects to {answer.headers.get('Location', 'somewhere')}",
            "give the address that it leads to, without /livez",
        )
    if answer.status in GATEWAY_TROUBLE:
        raise Ill(
            f"a gateway or proxy answers HTTP {answer.status}{answer.server}: it does not reach "
            "what is behind it",
            f"check that the service runs, and where the gateway thinks it is{case.way_around}",
        )
    if answer.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise Ill(
            f"something in between answers HTTP {answer.status}{answer.server}: medreward itself "
            "asks for no key here",
            f"ask whoever runs the gateway{case.way_around}",
        )
    kind = "a web page" if answer.is_page else "something else"
    raise Ill(
        f"{kind} answers, HTTP {answer.status}{answer.server}: this is not medreward",
        _whose_place(case) + case.way_around,
    )


def _is_alive(answer: Answer) -> bool:
    return isinstance(answer.said, dict) and answer.said.get("status") == "alive"


def _whose_place(case: Case) -> str:
    """Return advice on the right address, if another server responds at this one."""
    with suppress(OSError, http.client.HTTPException):
        if case.parts.path.strip("/") and _is_alive(
            ask(f"{case.root}/livez", timeout_s=case.timeout_s)
        ):
            return f"medreward is at {case.root}, without a path"
        models = ask(f"{case.root}/v1/models", timeout_s=case.timeout_s).said
        if isinstance(models, dict) and models.get("object") == "list":
            return (
                "it is a model server, perhaps the judge's; give the address of medreward, "
                f"whose own port is {USUAL_PORT}"
            )
    return f"check host and port; medreward's own is {USUAL_PORT}"
