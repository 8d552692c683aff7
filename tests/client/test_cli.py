"""The command `medreward-client`: its diagnosis of a connection, and its scoring of files."""

import asyncio
import json
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
import trustme
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send
from typer.testing import CliRunner

import medreward_client.trainers
from medreward.app import create_app
from medreward.engines.embedders.hashed import HashedEmbedder
from medreward.engines.judges.scripted import ScriptedJudge
from medreward.errors import SetupError
from medreward_client._cli.commands import PATH_TRAINERS
from medreward_client._cli.commands import app as commands
from medreward_client._cli.doctor import CHECKS
from medreward_client._cli.service_checks import check_clock
from medreward_client._cli.target import Caution, Target
from tests.client.stand_in import PATIENT_TEXT
from tests.service.cli.conftest import Outcome, Run, outage, settings
from tests.support.engines import TroubledJudge, hang
from tests.support.service import served
from tests.support.wait import wait_until

KEY = "a-key-that-nobody-should-see"
SAMPLE = {
    "id": "p1",
    "response": "<answer>Left lower lobe</answer>",
    "reference": "left lower lobe",
}
NOWHERE = "http://127.0.0.1:9"
"""An address where nobody listens."""
OTHER = {
    "id": "p2",
    "response": PATIENT_TEXT,
    "reference": ["left lower lobe", "LLL"],
    "group": "p2",
    "group_size": 1,
}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep this machine's services, keys and proxies out."""
    for name in list(os.environ):
        if name.startswith("MEDREWARD_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(autouse=True)
def unseen_logs() -> Iterator[None]:
    """Keep the log of services in this process out of the output of commands in it.

    And put back what a command, which has a process to itself, may have turned off.
    """
    log = logging.getLogger("medreward_client")
    level = log.level
    with structlog.testing.capture_logs():
        yield
    log.setLevel(level)


@pytest.fixture
def run() -> Run:
    """Run a command in this process."""
    runner = CliRunner()

    def run(*arguments: str | Path, stdin: str = "") -> Outcome:
        result = runner.invoke(commands, [str(a) for a in arguments], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def url() -> Iterator[str]:
    """The real service on a real socket, ready, without models."""
    with ready(create_app(settings())) as url:
        yield url


@pytest.fixture
def jsonl(tmp_path: Path) -> Callable[..., Path]:
    """Write a file of JSON Lines."""

    def write(*rows: Any) -> Path:
        path = tmp_path / "samples.jsonl"
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        return path

    return write


@contextmanager
def ready(app: FastAPI) -> Iterator[str]:
    """Serve an app, once its engines are loaded or have failed to."""
    with served(app) as url:
        wait_until(lambda: app.state.service.engines.status != "loading")
        yield url


@contextmanager
def answering(answer: Callable[[socket.socket], object]) -> Iterator[int]:
    """Listen on a free port, and do something with each connection; gives the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with closing(connection):
                    try:
                        answer(connection)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def ill_line_of(outcome: Outcome) -> str:
    """The line with the cross, and the advice below it."""
    _, _, ill = outcome.stdout.partition("✗ ")
    return ill


# doctor


def test_a_service_that_is_well_is_told_so_line_by_line(run: Run, url: str) -> None:
    """Every check has a tick and a finding; two samples were scored."""
    told = run("doctor", url)

    assert told.code == 0
    looks = [line.split()[1] for line in told.stdout.splitlines() if line.startswith("✓")]
    assert looks == list(CHECKS)
    assert "right answer 1, wrong answer 0.1" in told.stdout
    assert "judge scripted, embedder hashed are ready" in told.stdout
    assert told.stdout.endswith("All is well.\n")


@pytest.mark.parametrize(
    ("url", "found", "advice"),
    [
        ("localhost:8080", "does not begin with http://", "give http://localhost:8080"),
        ("ftp://rewards:8080", "begins with ftp://", "give one such as http://rewards:8080"),
        ("http://", "names no host", "give one such as"),
        ("http://rewards:80a", "no port that can be read", "give one such as"),
        ("http://rewards:8080/reward", "ends in /reward", "give http://rewards:8080\n"),
        ("http://gate/med/reward/", "ends in /med/reward", "give http://gate/med\n"),
        ("http://rewards:8080?key=1", "goes on after a ? or #", "give http://rewards:8080\n"),
        ("http://rewards:8080 ", "white space", "take it out"),
        # The user may have pasted the key there.
        (f"http://me:{KEY}@rewards:8080", "holds a user or a password", "MEDREWARD_API_KEY"),
        # Names of containers are known in their network alone.
        ("http://no-host.invalid:8080", "no address is known for no-host.invalid", "spelling"),
        (NOWHERE, "nobody listens on port 9 of 127.0.0.1", "listen on 0.0.0.0"),
    ],
)
def test_an_address_that_is_none_is_told_apart(run: Run, url: str, found: str, advice: str) -> None:
    """The advice proposes a corrected URL if there is one; no key is shown."""
    told = run("doctor", url)

    assert told.code == 1
    assert found in ill_line_of(told)
    assert advice in ill_line_of(told)
    assert KEY not in told.stdout + told.stderr


def test_a_host_that_swallows_connections(run: Run) -> None:
    """A firewall that drops packets is distinguished from a closed port."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as waiting:
        for _ in range(4):
            caller = waiting.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(full.getsockname())
        told = run("doctor", f"http://127.0.0.1:{full.getsockname()[1]}", "--timeout", "0.2")

    assert told.code == 1
    assert "no word from 127.0.0.1:" in ill_line_of(told)
    assert "firewall" in ill_line_of(told)


def test_a_port_that_says_nothing(run: Run) -> None:
    """It is open, and no answer comes: that is not a firewall."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        told = run("doctor", f"http://127.0.0.1:{silent.getsockname()[1]}", "--timeout", "0.2")

    assert told.code == 1
    assert "accepts connections, and then says nothing for 0.2 s" in ill_line_of(told)


def test_something_that_is_no_http(run: Run) -> None:
    """A database, say."""
    with answering(lambda connection: connection.sendall(b"-ERR unknown command\r\n")) as port:
        told = run("doctor", f"http://127.0.0.1:{port}")

    assert told.code == 1
    assert "does not speak HTTP" in ill_line_of(told)


def test_tls_where_plain_http_is_meant(run: Run) -> None:
    """The address is right but for one letter."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

    def shake_hands(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as talking:
            talking.recv(1)

    with answering(shake_hands) as port:
        told = run("doctor", f"http://127.0.0.1:{port}")
        untrusted = run("doctor", f"https://127.0.0.1:{port}")

    assert "the port speaks TLS, not plain HTTP" in ill_line_of(told)
    assert f"give https://127.0.0.1:{port}" in ill_line_of(told)
    assert "the certificate of 127.0.0.1 is not trusted" in ill_line_of(untrusted)
    assert "SSL_CERT_FILE" in ill_line_of(untrusted)


def test_plain_http_where_tls_is_meant(run: Run, url: str) -> None:
    """The other way round."""
    told = run("doctor", url.replace("http:", "https:"))

    assert "the port speaks plain HTTP, not TLS" in ill_line_of(told)
    assert f"give {url}" in ill_line_of(told)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (HTMLResponse("<html>Welcome to nginx!"), "a web page answers, HTTP 200"),
        (JSONResponse({"detail": "Not Found"}, 404), "something else answers, HTTP 404"),
        (HTMLResponse("<h1>Bad Gateway", 502), "a gateway or proxy answers HTTP 502"),
        (Response(status_code=403), "something in between answers HTTP 403"),
        (RedirectResponse("https://rewards.example.org/livez"), "redirects to https://rewards."),
    ],
)
def test_something_else_that_speaks_http(run: Run, answer: Response, found: str) -> None:
    """A web server, a gateway, or another service at this port: nothing of it is shown."""
    with served(answer) as url:
        told = run("doctor", url)

    assert told.code == 1
    assert found in ill_line_of(told)
    assert "Welcome" not in told.stdout


def test_the_judges_own_server_is_recognised(run: Run) -> None:
    """Two addresses on one page of settings are easily exchanged."""

    async def model_server(scope: Scope, receive: Receive, send: Send) -> None:
        is_known = scope["path"] == "/v1/models"
        body = {"object": "list", "data": []} if is_known else {"detail": "Not Found"}
        await JSONResponse(body, 200 if is_known else 404)(scope, receive, send)

    with served(model_server) as url:
        told = run("doctor", url)

    assert "it is a model server, perhaps the judge's" in ill_line_of(told)


def test_a_path_that_leads_nowhere(run: Run, url: str) -> None:
    """The service is found where it is."""
    told = run("doctor", f"{url}/api")

    assert told.code == 1
    assert f"medreward is at {url}, without a path" in ill_line_of(told)


def test_a_service_behind_a_path(run: Run) -> None:
    """Gateways put services under a path; that is worth knowing, and no fault."""
    inner = create_app(settings())

    async def gateway(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            assert scope["path"].startswith("/med/")
            scope = {**scope, "path": scope["path"].removeprefix("/med")}
        await inner(scope, receive, send)

    with served(gateway) as url:
        wait_until(lambda: inner.state.service.engines.status == "ready")
        told = run("doctor", f"{url}/med/")

    assert told.code == 0
    assert f"! URL      {url}/med; requests go to /med/reward" in told.stdout


def test_a_connection_that_breaks_off(run: Run) -> None:
    """The service died between two looks."""
    alive = b"HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n" + b'{"status":"alive"}'
    answers = [b"", alive]

    def die_soon(connection: socket.socket) -> None:
        if answers:
            # The first look opens a connection, and says nothing.
            connection.recv(65_536)
            connection.sendall(answers.pop(0))

    with answering(die_soon) as port:
        told = run("doctor", f"http://127.0.0.1:{port}")

    assert told.code == 1
    assert "✓ service  it is medreward" in told.stdout
    assert "the connection broke off" in ill_line_of(told)


def test_a_key_that_is_missing_wrong_and_right(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each problem of a key is reported, and the key is never shown."""
    with ready(create_app(settings(api_keys=(SecretStr(KEY),)))) as url:
        missing = run("doctor", url)
        wrong = run("doctor", url, "--api-key", KEY + "x")
        broken = run("doctor", url, "--api-key", KEY + "\n")
        monkeypatch.setenv("MEDREWARD_API_KEY", KEY)
        right = run("doctor", url)

    assert "asks for a key, and none was given" in ill_line_of(missing)
    assert "does not know this key" in ill_line_of(wrong)
    assert "holds a line break" in ill_line_of(broken)
    assert right.code == 0
    assert all(KEY not in told.stdout + told.stderr for told in (missing, wrong, broken, right))


def test_a_key_that_is_not_needed(run: Run, url: str) -> None:
    """An unneeded key is a warning, since it may mean that the URL is another service's."""
    told = run("doctor", url, "--api-key", KEY)

    assert told.code == 0
    assert "! key      one was given, and the service asks for none" in told.stdout


class LoadingJudge(ScriptedJudge):
    """A judge that takes its time until the test ends."""

    async def start(self) -> None:
        """Load."""
        await asyncio.sleep(3600)


class BrokenJudge(ScriptedJudge):
    """A judge that cannot be used."""

    async def start(self) -> None:
        """Fail for good."""
        raise SetupError("the model is not there; run `medreward models fetch`")


def test_a_service_that_loads(run: Run) -> None:
    """Which engine is awaited, and that waiting helps."""
    with served(create_app(settings(), judge=LoadingJudge(), embedder=HashedEmbedder())) as url:
        told = run("doctor", url)
        health = run("health", url)

    assert told.code == health.code == 1
    assert "the service is loading: the judge scripted: loading" in ill_line_of(told)
    assert "wait" in ill_line_of(told)
    assert health.stdout.startswith("loading\n")


def test_a_service_whose_engine_failed(run: Run) -> None:
    """The error is the service's own message."""
    with ready(create_app(settings(), judge=BrokenJudge())) as url:
        told = run("doctor", url)

    assert told.code == 1
    assert "the service is failed: the judge" in ill_line_of(told)
    assert "medreward models fetch" in ill_line_of(told)


def test_samples_that_come_back_unscored(run: Run) -> None:
    """A judge that went away after its start shows only when it is asked."""
    with ready(outage()) as url:
        told = run("doctor", url)

    assert told.code == 1
    assert "unscored: judge_unreachable" in ill_line_of(told)
    assert "start the judge's server" in ill_line_of(told)


class Alike(HashedEmbedder):
    """An embedder to which all texts are near."""

    async def embed(self, texts: Sequence[str]) -> Sequence[Any]:
        """Embed something else."""
        return await super().embed(["the same"] * len(texts))


def test_a_service_that_takes_wrong_for_right(run: Run) -> None:
    """It is up, and no policy would learn anything from it."""
    app = create_app(settings(), judge=ScriptedJudge(default="YES"), embedder=Alike())
    with ready(app) as url:
        told = run("doctor", url)

    assert told.code == 1
    assert "right answer 1, wrong answer 1" in ill_line_of(told)
    assert "do not train on this judge" in ill_line_of(told)


def test_a_recipe_that_is_not_there(run: Run, url: str) -> None:
    """The service lists those it has."""
    told = run("doctor", url, "--recipe", "none-such")

    assert told.code == 1
    assert "choose from medix-r1" in ill_line_of(told)


def test_a_proxy_in_the_environment(run: Run, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named without its password; where it does not answer, the way around it is told."""
    monkeypatch.setenv("HTTP_PROXY", f"http://me:{KEY}@127.0.0.1:9")
    dead = run("doctor", url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    around = run("doctor", url)

    assert dead.code == 1
    assert "! proxy    the environment sends requests through 127.0.0.1:" in dead.stdout
    assert "export NO_PROXY=127.0.0.1" in ill_line_of(dead)
    assert KEY not in dead.stdout
    assert around.code == 0


def test_clocks_that_differ() -> None:
    """Logs of both would not fit together."""
    reply = b"HTTP/1.1 200 OK\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n"

    def tell_the_time(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(reply)

    with answering(tell_the_time) as port:
        found = check_clock(Target(f"http://127.0.0.1:{port}", None, None, timeout_s=60.0))

    assert isinstance(found, Caution)
    assert found.found.endswith("s ahead of the service's")


# health, score, path


def test_health_names_the_engines(run: Run, url: str) -> None:
    """And ends well if the service takes work."""
    told = run("health", url)

    assert told.code == 0
    assert told.stdout.splitlines()[:3] == [
        "ready",
        "judge    scripted: ready",
        "embedder hashed: ready",
    ]


def test_a_service_that_went_away_is_told_in_one_line(
    run: Run, jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    """With the command that says more."""
    arguments = ["--url", NOWHERE, "--deadline", "0.1"]
    told = run("score", jsonl(SAMPLE), "--out", tmp_path / "out.jsonl", *arguments)

    assert told.code == 1
    assert told.stderr.count("\n") == 1
    assert "`medreward-client doctor URL` tells more" in told.stderr


def test_a_file_is_scored_and_gone_on_with(
    run: Run, url: str, jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    """The second run asks about nothing that has a reward."""
    out = tmp_path / "out.jsonl"
    first = run("score", jsonl(SAMPLE), "--out", out, "--url", url)
    second = run("score", jsonl(SAMPLE, "", OTHER), "--out", out, "--url", url)

    assert first.code == second.code == 0
    assert first.stdout == f"1 scored, 0 unscored: {out}\n"
    assert second.stdout == f"2 scored (1 of them before), 0 unscored: {out}\n"
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["id"] for row in rows] == ["p1", "p2"]
    assert PATIENT_TEXT not in first.stderr + second.stderr + out.read_text()


def test_a_file_can_come_from_standard_input(run: Run, url: str, tmp_path: Path) -> None:
    """The file `-`, here with half an emoji, as programs write it that cut texts in the middle."""
    out = tmp_path / "out.jsonl"
    line = '{"response": "\\ud83d x", "reference": "y"}'
    told = run("score", "-", "--out", out, "--url", url, stdin=line)

    assert told.code == 0
    assert len(out.read_text().splitlines()) == 1


def test_the_address_may_stand_in_the_environment(
    run: Run, url: str, jsonl: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same variable that trainers' adapters read."""
    monkeypatch.setenv("MEDREWARD_URL", url)

    assert run("score", jsonl(SAMPLE), "--out", tmp_path / "out.jsonl").code == 0
    assert run("health").code == 0
    assert run("doctor").code == 0


def test_what_is_unscored_is_told_by_its_reason(
    run: Run, jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    """The exit code says that not all is done, and the next line what to do."""
    with ready(outage()) as url:
        told = run("score", jsonl(SAMPLE, OTHER), "--out", tmp_path / "out.jsonl", "--url", url)

    assert told.code == 1
    assert "0 scored, 2 unscored" in told.stdout
    assert "  2 judge_unreachable" in told.stdout
    assert "Run the same command again" in told.stdout


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("not json", "line 2: not JSON at column 1"),
        ("[1]", "line 2: not a JSON object"),
        ('{"response": "x"}', "line 2: reference: required, but missing"),
        ('{"response": 1, "reference": "y"}', "line 2: response: must be a text"),
        ('{"response": "x", "reference": []}', "line 2: reference: must be a text, or a list"),
        ('{"respones": "x", "reference": "y"}', "line 2: respones: no field of a sample"),
        (json.dumps(SAMPLE), "line 2: id: that of line 1 as well"),
        ('{"response": "x", "reference": "y", "criteria": [1]}', "line 2: criteria[0]: must be"),
        ('{"response": "x", "reference": "y", "group_size": true}', "line 2: group_size: must be"),
        ('{"response": "x", "reference": "y", "extra": 1}', "line 2: extra: must be an object"),
    ],
)
def test_nothing_is_sent_unless_every_line_is_a_sample(
    run: Run, jsonl: Callable[..., Path], tmp_path: Path, line: str, reason: str
) -> None:
    """The error names the line and the field, never the value."""
    out = tmp_path / "out.jsonl"
    told = run("score", jsonl(SAMPLE, line), "--out", out, "--url", NOWHERE)

    assert told.code == 2
    assert "1 of 2 lines cannot be used, so nothing was sent" in told.stderr
    assert reason in told.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("out", "reason"),
    [(".", "is a folder"), ("none/out.jsonl", "no folder"), ("samples.jsonl", "is the file")],
)
def test_results_need_a_place_of_their_own(
    run: Run, jsonl: Callable[..., Path], tmp_path: Path, out: str, reason: str
) -> None:
    """A slip must not cost the samples."""
    told = run("score", jsonl(SAMPLE), "--out", tmp_path / out, "--url", NOWHERE)

    assert told.code == 2
    assert reason in told.stderr
    assert told.stderr.count("\n") == 1


def test_a_refusal_is_told_in_the_services_words_with_the_samples(
    run: Run, jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    """One line, no traceback, and none of the sample's text."""
    with ready(create_app(settings())) as url:
        strange = OTHER | {"modality": "TEA_LEAVES"}
        told = run("score", jsonl(SAMPLE, strange), "--out", tmp_path / "out", "--url", url)

    assert told.code == 1
    assert "line 2 (p2): " in told.stderr
    assert "the sample 'p2', modality: " in told.stderr
    assert "1 scored, 1 unscored" in told.stdout
    assert PATIENT_TEXT not in told.stderr


def test_results_of_another_recipe_are_not_added_to(
    run: Run, url: str, jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    """The message says to write elsewhere."""
    out = tmp_path / "out.jsonl"
    run("score", jsonl(SAMPLE), "--out", out, "--url", url)
    told = run("score", jsonl(SAMPLE, OTHER), "--out", out, "--url", url, "--recipe", "strict")

    assert told.code == 1
    assert "write to a new file" in told.stderr


def test_an_interrupted_command_says_how_to_go_on(
    jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    """Ctrl-C ends the command at once, with all results so far in the file."""
    out = tmp_path / "out.jsonl"
    # Its second batch, after that of the warm-up, is answered, and the third is not.
    judge = TroubledJudge(hang, after=2)
    rows = [OTHER | {"id": f"p{n}", "response": f"{PATIENT_TEXT} {n}"} for n in range(3)]
    with ready(create_app(settings(), judge=judge)) as url:
        arguments = ["score", jsonl(*rows), "--out", out, "--url", url]
        with subprocess.Popen(  # noqa: S603 - our own program
            [
                sys.executable,
                "-m",
                "medreward_client",
                *map(str, arguments),
                "--batch",
                "1",
                "--in-flight",
                "1",
            ],
            stderr=subprocess.PIPE,
            text=True,
        ) as command:
            wait_until(lambda: out.exists() and out.read_bytes().endswith(b"\n"))
            command.send_signal(signal.SIGINT)
            _, said = command.communicate(timeout=60)

    assert command.returncode == 130
    assert said.endswith(f"{out} keeps what was answered: run the same command again to go on\n")
    assert "Traceback" not in said
    assert len(out.read_text().splitlines()) == 1


@pytest.mark.parametrize("trainer", PATH_TRAINERS)
def test_the_path_of_an_adapter_is_that_of_its_file(run: Run, trainer: str) -> None:
    """It is what a trainer's configuration takes."""
    told = run("path", trainer)
    path = Path(medreward_client.trainers.__path__[0]) / f"{trainer}.py"

    assert path.exists()
    assert (told.code, told.stdout) == (0, f"{path}\n")


def test_an_unknown_trainer_is_answered_by_the_choices(run: Run) -> None:
    """Those that take a path, and no others."""
    told = run("path", "trl")

    assert told.code == 2
    assert "choose from easyr1, ms_swift, openrlhf" in told.stderr


def test_an_address_that_can_never_work_is_a_misuse(run: Run) -> None:
    """The message shows one that can."""
    told = run("health", "rewards:8080")

    assert told.code == 2
    assert "base_url must look like http://host:8080" in told.stderr


def test_the_version_is_told(run: Run) -> None:
    """It is asked for in every report of a fault."""
    assert run("--version").stdout.startswith("medreward-client 0.")


@pytest.mark.parametrize("command", ["doctor", "health", "score", "path"])
def test_every_command_shows_how_it_is_used(run: Run, command: str) -> None:
    """With an example that can be copied."""
    told = run(command, "--help")

    assert told.code == 0
    assert f"medreward-client {command} " in told.stdout


def test_without_the_extra_the_command_says_how_to_get_it() -> None:
    """Without the extra, the command prints one line that names it."""
    program = "import sys; sys.modules['typer'] = None; import medreward_client._cli as c; c.main()"
    told = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert told.returncode == 1
    assert told.stderr == (
        "medreward-client: typer is not installed; pip install 'medreward-client[cli]' brings it\n"
    )


def test_the_client_itself_needs_none_of_it() -> None:
    """A trainer's environment has neither rich nor typer."""
    program = (
        "import sys; sys.modules['typer'] = sys.modules['rich'] = None; "
        "import medreward_client._many"
    )
    subprocess.run([sys.executable, "-c", program], check=True)  # noqa: S603 - our own program
