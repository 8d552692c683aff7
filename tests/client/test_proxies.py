"""Proxies of the environment: which hosts they are for, and what is said of them."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from medreward.engines.remote import http_client
from medreward.errors import SetupError
from medreward_client import MedrewardError, RewardClient, Sample, Unavailable
from medreward_client.pauses import Pauses
from medreward_client.proxies import is_excepted, proxy_for
from medreward_client.scoring import Scorer
from tests.client.listening import listening
from tests.client.stand_in import SAMPLE
from tests.client_adapters.told_service import RIGHT, ToldService, told_service

DEAD = "http://ward:hunter2@127.0.0.1:9"
"""A proxy where nobody listens; the password is nobody's business."""
QUICK = Pauses(first_s=0.0, longest_s=0.0)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep this machine's proxies out."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith(("SSL_CERT", "MEDREWARD_")):
            monkeypatch.delenv(name)


@pytest.fixture
def service() -> Iterator[ToldService]:
    """A service on 127.0.0.1."""
    with told_service() as told:
        yield told


@pytest.mark.parametrize(
    ("entries", "url"),
    [
        ("*", "http://rewards:8080"),
        ("localhost, rewards", "http://rewards:8080"),
        ("localhost rewards", "http://rewards:8080"),
        ("Rewards", "http://REWARDS:8080"),
        ("rewards:8080", "http://rewards:8080"),
        ("rewards:80", "http://rewards"),
        ("http://rewards", "http://rewards:8080"),
        ("example.org", "http://rewards.example.org"),
        (".svc.cluster.local", "http://rewards.ml.svc.cluster.local:8080"),
        ("*.example.org", "http://rewards.example.org"),
        ("10.0.0.0/8", "http://10.1.2.3:8080"),
        ("10.1.2.3/8", "http://10.1.2.3:8080"),
        ("10.1.2.3", "http://10.1.2.3:8080"),
        ("10.*", "http://10.1.2.3:8080"),
        ("fd00::/8", "http://[fd00::17]:8080"),
        ("fe80::/10", "http://[fe80::1]:8080"),
        ("::1", "http://[::1]:8080"),
        ("[::1]", "http://[::1]:8080"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("0:0:0:0:0:0:0:1", "http://[::1]:8080"),
    ],
)
def test_a_host_that_no_proxy_names_is_reached_directly(entries: str, url: str) -> None:
    """By its name, a domain, a port, its address in any form, or a network of either family."""
    assert is_excepted(urlsplit(url), entries)


@pytest.mark.parametrize(
    ("entries", "url"),
    [
        ("", "http://rewards:8080"),
        ("ards", "http://rewards:8080"),
        ("rewards:81", "http://rewards:8080"),
        ("10.0.0.0/8", "http://11.1.2.3:8080"),
        ("10.0.0.0/8", "http://rewards:8080"),
        ("fd00::/8", "http://10.1.2.3:8080"),
        ("[::1]:81", "http://[::1]:8080"),
        # What is no entry names no host, and harms none of the others.
        (", ,:8080,[::1,10.0.0.0/99,fd00::/999,http://", "http://10.1.2.3:8080"),
    ],
)
def test_any_other_host_is_reached_through_the_proxy(entries: str, url: str) -> None:
    """An entry names what it says, and no more."""
    assert not is_excepted(urlsplit(url), entries)


def test_the_proxy_is_that_of_the_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    """ALL_PROXY is for schemes that have none; an address without a scheme is one of HTTP."""
    monkeypatch.setenv("HTTP_PROXY", "gate:3128")
    monkeypatch.setenv("ALL_PROXY", "http://other:3128")

    assert proxy_for("http://rewards:8080") == "http://gate:3128"
    assert proxy_for("https://rewards:8080") == "http://other:3128"


# Neither may import the other, so each has code of its own.
@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"HTTP_PROXY": "http://gate:3128", "HTTPS_PROXY": "http://gate:3129"},
        {"HTTP_PROXY": "gate:3128", "ALL_PROXY": "socks5://other:1080"},
        {"http_proxy": "http://ward:hunter2@[::1]:3128"},
        {"HTTP_PROXY": ""},
        {"HTTP_PROXY": "http://gate:0"},
        {"HTTP_PROXY": "http://gate:port"},
        *(
            {"ALL_PROXY": "http://gate", "NO_PROXY": entries}
            for entries in (
                *("*", "REWARDS", "rewards:8080", "rewards:80", "http://rewards", "ards"),
                *("localhost rewards", ", ,:8080,[::1,10.0.0.0/99,http://", "rewards.", "."),
                *("example.org", ".example.org", "*.example.org", "*example.org", "*.org:80"),
                *("10.0.0.0/8", "10.1.2.3/8", "10.1.2.3:8080", "10.*", "10.1.2.", "fd00::/8"),
                *("::1", "[::1]", "[::1]:8080", "[::1]:81", "0:0:0:0:0:0:0:1", "bücher"),
            )
        ),
    ],
    ids=str,
)
def test_service_and_client_read_the_environment_alike(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    """The proxy, what needs none, and what cannot be a proxy, for hosts of every kind."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def found(read: Callable[[str], str | None], url: str) -> str | None:
        try:
            return read(url)
        except (ValueError, SetupError):
            return "refused"

    for url in (
        *("http://rewards:8080", "https://rewards", "http://REWARDS.", "http://rewards:80/v1"),
        *("http://a.example.org", "https://example.org", "http://myexample.org", "http://bücher"),
        *("http://10.1.2.3:8080", "http://11.1.2.3", "http://[::1]:8080", "https://[fd00::17]"),
        *("http://", "ftp://rewards"),
    ):
        assert found(http_client.proxy_for, url) == found(proxy_for, url), url


@pytest.mark.parametrize("entries", ["localhost,fd00::/8", "[::1],fe80::/10", "fd00::/999"])
@pytest.mark.parametrize("proxy", [None, DEAD])
def test_networks_of_ipv6_stop_nothing(
    monkeypatch: pytest.MonkeyPatch, service: ToldService, entries: str, proxy: str | None
) -> None:
    """With a proxy for other hosts, and without one: dual-stack clusters set such entries."""
    monkeypatch.setenv("NO_PROXY", f"127.0.0.0/8,{entries}")
    if proxy is not None:
        monkeypatch.setenv("HTTP_PROXY", proxy)

    with RewardClient(service.url) as client:
        (result,) = client.reward([Sample(RIGHT, "left")]).rewards

    assert result == 1.0


def test_a_proxy_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, service: ToldService, caplog: pytest.LogCaptureFixture
) -> None:
    """In the first warning and in the error, without its password: the service is not to blame."""
    monkeypatch.setenv("HTTP_PROXY", DEAD)
    caplog.set_level(logging.WARNING, "medreward_client")

    with RewardClient(service.url, pauses=QUICK) as client, pytest.raises(Unavailable) as caught:
        client.reward([SAMPLE], deadline_s=0.5)

    way = f"{service.url[7:]} through the proxy 127.0.0.1:9 of the environment"
    assert way in str(caught.value)
    assert way in caplog.records[0].message
    assert "hunter2" not in str(caught.value) + caplog.text


class Refusing(BaseHTTPRequestHandler):
    """A proxy that lets nobody through, or shows a page."""

    status = 403

    def do_POST(self) -> None:
        """Refuse."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class Page(Refusing):
    """A proxy whose page comes with 200."""

    status = 200


@pytest.mark.parametrize("proxy", [Refusing, Page])
def test_an_answer_that_is_not_the_service_s_names_the_proxy(
    monkeypatch: pytest.MonkeyPatch, proxy: type[BaseHTTPRequestHandler]
) -> None:
    """It may be the proxy's own, whatever its status."""
    with listening(proxy) as url, RewardClient("http://10.1.2.3:8080") as client:
        monkeypatch.setenv("HTTP_PROXY", url)
        with pytest.raises(MedrewardError, match=f"10.1.2.3:8080 through the proxy {url[7:]} of"):
            client.reward([SAMPLE], deadline_s=60)


@pytest.mark.parametrize(
    "proxy",
    ["http://[::1", "gopher://gate:70", "http://gate:port", "http://gate:65536", "http://gate:0"],
)
def test_a_proxy_that_cannot_be_read_ends_in_words(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    """The error is a MedrewardError that names the variables, and nothing is tried again."""
    monkeypatch.setenv("HTTP_PROXY", proxy)

    told = pytest.raises(MedrewardError, match="HTTP_PROXY, HTTPS_PROXY or ALL_PROXY")
    with RewardClient("http://rewards:8080") as client, told:
        client.reward([SAMPLE], deadline_s=60)


def test_certificates_that_are_not_there_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The error names the variable that names them; a process of its own loads them once."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))

    found = subprocess.run(
        [sys.executable, "-m", "medreward_client", "health", "https://rewards:8080"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert found.returncode == 1
    assert "SSL_CERT_FILE" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("key", ["", " ", "\n"])
def test_a_blank_variable_is_none(
    monkeypatch: pytest.MonkeyPatch, service: ToldService, key: str
) -> None:
    """An address or a key that was left out, as `NAME=` in a file of variables, is not sent."""
    monkeypatch.setenv("MEDREWARD_URL", service.url)
    monkeypatch.setenv("MEDREWARD_API_KEY", key)

    scorer = Scorer(base_url=key, api_key=key, recipe=key, run_id=key, deadline_s=60)
    (outcome,) = scorer.score_blocking([Sample(RIGHT, "left")])

    assert outcome.reward == 1.0
    assert "Authorization" not in service.headers[0]
    assert (service.bodies[0]["recipe"], service.bodies[0]["run"]) == (None, None)


def test_a_blank_address_is_told_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the variable."""
    monkeypatch.setenv("MEDREWARD_URL", "")

    with pytest.raises(ValueError, match="set MEDREWARD_URL"):
        Scorer()
