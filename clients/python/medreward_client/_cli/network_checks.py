"""Checks from outside a service: its address, name, port, HTTP, and identity."""

import http.client
import re
import socket
import ssl
import time
from contextlib import suppress
from http import HTTPStatus

from medreward_client._cli.target import (
    USUAL_PORT,
    Caution,
    Failure,
    Target,
    ask,
)
from medreward_client.proxies import DEFAULT_PORTS

ROUTES = ("/reward", "/judge", "/livez", "/readyz", "/version", "/recipes", "/metrics", "/docs")
GATEWAY_TROUBLE = (
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)
OTHER_SCHEMES = {"http": ("https", "TLS, not plain HTTP"), "https": ("http", "plain HTTP, not TLS")}


def check_url(target: Target) -> str | Caution:
    """Check that the URL is valid, and is the service's without a route."""
    example = f"give one such as http://rewards:{USUAL_PORT}"
    if re.search(r"\s", target.url):
        raise Failure("the URL holds white space", "take it out, and quote the URL in the shell")
    if "://" not in target.url:
        raise Failure(f"{target.url} does not begin with http://", f"give http://{target.url}")
    try:
        scheme, host, _ = target.parts.scheme, target.host, target.parts.port
    except ValueError:
        raise Failure("the URL has no port that can be read", example) from None
    if scheme not in DEFAULT_PORTS:
        raise Failure(f"the URL begins with {scheme}://, not http:// or https://", example)
    if not host:
        raise Failure("the URL names no host", example)
    if "@" in target.parts.netloc:
        raise Failure(
            "the URL holds a user or a password, and medreward knows neither",
            "leave out what stands before the @; a key goes into MEDREWARD_API_KEY",
        )
    if target.parts.query or target.parts.fragment:
        raise Failure("the URL goes on after a ? or #", f"give {target.root}")
    return _path_of(target)


def _path_of(target: Target) -> str | Caution:
    path = target.parts.path.rstrip("/")
    if path.endswith(ROUTES):
        raise Failure(
            f"the URL ends in {path}; the client adds the route by itself",
            f"give {target.base[: target.base.rindex('/')]}",
        )
    if path:
        return Caution(f"{target.base}; requests go to {path}/reward", "fine behind a gateway")
    if target.parts.port is None:
        return Caution(
            f"{target.base} names no port, which means {target.port}",
            f"if it does not answer there: medreward's own is {USUAL_PORT}",
        )
    return target.base


def check_proxy(target: Target) -> str | Caution:
    """Check for a proxy in the environment."""
    try:
        host, port = target.next_hop
    except ValueError:
        raise Failure(
            "the environment names a proxy whose address cannot be read",
            "mend HTTP_PROXY, HTTPS_PROXY or ALL_PROXY; or, if the service is in your own network: "
            f"export NO_PROXY={target.host}",
        ) from None
    if target.proxy is None:
        return "none; requests go straight to the service"
    return Caution(
        f"the environment sends requests through {host}:{port}",
        f"if the service is in your own network: export NO_PROXY={target.host}",
    )


def check_name(target: Target) -> str:
    """Resolve the name of the host."""
    host, port = target.next_hop
    try:
        entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Failure(
            f"no address is known for {host}",
            "check the spelling; names of containers and of Kubernetes services are known only "
            f"inside their own network{target.way_around}",
        ) from None
    addresses = dict.fromkeys(str(entry[4][0]) for entry in entries)
    return f"{host} is {'an address' if host in addresses else ', '.join(addresses)}"


def check_port(target: Target) -> str:
    """Check that the port accepts connections."""
    host, port = target.next_hop
    began_s = time.perf_counter()
    try:
        with socket.create_connection((host, port), target.timeout_s):
            took_ms = 1000 * (time.perf_counter() - began_s)
    except ConnectionRefusedError:
        raise Failure(
            f"nobody listens on port {port} of {host}",
            "check the port, and that the service runs; in a container it must listen on "
            f"0.0.0.0, and the port be published (medreward's own is {USUAL_PORT}){target.way_around}",
        ) from None
    except TimeoutError:
        raise Failure(
            f"no word from {host}:{port} in {target.timeout_s:g} s",
            "the host is down, or a firewall or security group swallows the connection"
            f"{target.way_around}",
        ) from None
    except OSError as exc:
        raise Failure(
            f"{host}:{port} cannot be reached: {exc.strerror or exc}",
            "check that this machine is in the service's network (a VPN, perhaps)",
        ) from None
    return f"{port} is open ({took_ms:.1f} ms)"


def check_http(target: Target) -> str:
    """Check that the port speaks HTTP, with or without TLS according to the address."""
    try:
        answer = target.liveness
    except TimeoutError:
        raise Failure(
            f"the port accepts connections, and then says nothing for {target.timeout_s:g} s",
            "something else may listen there, or the service hangs: look at its log",
        ) from None
    except (OSError, http.client.HTTPException) as exc:
        raise _no_http(target, exc) from exc
    return f"HTTP {answer.status} in {answer.took_ms:.1f} ms"


def _no_http(target: Target, error: Exception) -> Failure:
    if target.proxy is not None:
        return Failure(
            f"nothing comes back through the proxy: {type(error).__name__}",
            f"if the service is in your own network: export NO_PROXY={target.host}",
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        return Failure(
            f"the certificate of {target.host} is not trusted: {error.verify_message}",
            "let SSL_CERT_FILE name the file of your organisation's certificates, or use the name "
            "that the certificate is for",
        )
    other, found = OTHER_SCHEMES[target.parts.scheme]
    if _answers(f"{other}://{target.parts.netloc}/livez", target.timeout_s):
        return Failure(f"the port speaks {found}", f"give {other}://{target.parts.netloc}")
    return Failure(
        f"what listens there does not speak HTTP ({type(error).__name__})",
        f"check the port; medreward's own is {USUAL_PORT}",
    )


def _answers(url: str, timeout_s: float) -> bool:
    try:
        ask(url, timeout_s=timeout_s)
    except ssl.SSLCertVerificationError:
        # Not trusted, but TLS.
        return True
    except (OSError, http.client.HTTPException):
        return False
    return True


def check_service(target: Target) -> str:
    """Check that the responding server is medreward."""
    answer = target.liveness
    if answer.is_alive:
        return "it is medreward"
    if 300 <= answer.status < 400:  # noqa: PLR2004 - redirects
        raise Failure(
            f"it redirects to {answer.headers.get('Location', 'somewhere')}",
            "give the address that it leads to, without /livez",
        )
    if answer.status in GATEWAY_TROUBLE:
        raise Failure(
            f"a gateway or proxy answers HTTP {answer.status}{answer.server}: it does not reach "
            "what is behind it",
            f"check that the service runs, and where the gateway thinks it is{target.way_around}",
        )
    if answer.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise Failure(
            f"something in between answers HTTP {answer.status}{answer.server}: medreward itself "
            "asks for no key here",
            f"ask whoever runs the gateway{target.way_around}",
        )
    kind = "a web page" if answer.is_page else "something else"
    raise Failure(
        f"{kind} answers, HTTP {answer.status}{answer.server}: this is not medreward",
        _whose_place(target) + target.way_around,
    )


def _whose_place(target: Target) -> str:
    """Return advice on the right address, if another server responds at this one."""
    with suppress(OSError, http.client.HTTPException):
        has_path = bool(target.parts.path.strip("/"))
        if has_path and ask(f"{target.root}/livez", timeout_s=target.timeout_s).is_alive:
            return f"medreward is at {target.root}, without a path"
        models = ask(f"{target.root}/v1/models", timeout_s=target.timeout_s).said
        if models.get("object") == "list":
            return (
                "it is a model server, perhaps the judge's; give the address of medreward, "
                f"whose own port is {USUAL_PORT}"
            )
    return f"check host and port; medreward's own is {USUAL_PORT}"
