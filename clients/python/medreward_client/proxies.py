"""The proxy of the environment for an address, and the hosts of NO_PROXY, as curl and Go read them.

The HTTP library's own reading ends in an exception if NO_PROXY holds a network of IPv6, and takes
no notice of one of IPv4.
"""

import re
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies

DEFAULT_PORTS = {"http": 80, "https": 443}
_ENTRY = re.compile(r"(?:[a-z]+://)?(\[[^]]*\]|[^:]*|.*:.*:.*?)(?::(\d+))?")
"""An entry of NO_PROXY: a name, an address, `[an address]` or a network, and perhaps a port."""


def proxy_for(url: str) -> str | None:
    """Return the address of the proxy that the environment names for *url*; None for a direct way.

    Raises ValueError if it names one whose address, or port, cannot be.
    """
    parts, proxies = urlsplit(url), getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or not parts.hostname or is_excepted(parts, proxies.get("no", "")):
        return None
    address = proxy if "://" in proxy else f"http://{proxy}"
    if urlsplit(address).port == 0:
        raise ValueError("a proxy's port is 1 to 65535")
    return address


def is_excepted(url: SplitResult, no_proxy: str) -> bool:
    """Return True if NO_PROXY names the host of *url*.

    Its entries are separated by commas or blanks: `*`, names (which stand for the names below
    them), addresses, networks, and patterns such as `10.*`; any of them but a network may have a
    port. An entry that is none of these names no host.
    """
    host, port = (url.hostname or "").rstrip("."), url.port or DEFAULT_PORTS.get(url.scheme)
    return any(_names(entry, host, port) for entry in re.split(r"[,\s]+", no_proxy.lower()))


def _names(entry: str, host: str, port: int | None) -> bool:
    found = _ENTRY.fullmatch(entry)
    if not entry or found is None or (found[2] is not None and int(found[2]) != port):
        return False
    name = found[1].strip("[]")
    try:
        return ip_address(host) in ip_network(name, strict=False)
    except ValueError:
        # One of the two is no address.
        name = name.lstrip(".")
        return bool(name) and (
            host == name or host.endswith(f".{name}") or ("*" in name and fnmatchcase(host, name))
        )


def shown(proxy: str | None) -> str:
    """Return what a message says of the proxy behind a server's name; nothing if there is none.

    Only host and port: the address may hold a password.
    """
    if proxy is None:
        return ""
    return f" through the proxy {urlsplit(proxy).netloc.rpartition('@')[2]} of the environment"
