"""`medreward serve`: the service as a user runs it, from a real process."""

import asyncio
import json
import re
import shlex
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from medreward import NOTICE
from medreward.app import create_app
from medreward.cli.environment import misspelt_variables
from medreward.cli.serve import wait_for_end
from medreward.cli.terminal import CommandError
from medreward.engines.embedders.hashed import HashedEmbedder
from medreward.engines.supervisor import LIMITS_WITHOUT_LLM
from medreward.errors import BackendDown
from medreward.http.server import server_config
from medreward.settings import Settings
from tests.redis_servers import free_port
from tests.service.cli.conftest import Run
from tests.support.engines import TroubledJudge, raising
from tests.support.hang import cpu_ns, hanging_to_the_end
from tests.support.process import Service, serving
from tests.support.service import over_asgi
from tests.support.wait import wait_until

SCRIPTED = {"judge": "scripted", "embedder": "hashed", "log_level": "info"}


@pytest.fixture(scope="module")
def ready() -> Iterator[Service]:
    """A service without models."""
    with serving(None, **SCRIPTED) as service:
        yield service


def test_the_welcome_tells_what_was_loaded(ready: Service) -> None:
    """Judge, embedder, recipe and fingerprint, address, keys, and what the numbers are not for."""
    assert httpx.get(f"{ready.url}/readyz").status_code == 200
    assert "judge (scripted) embedder (hashed) loaded in " in ready.welcome
    assert "recipe medix-r1 sha256:" in ready.welcome
    assert "listens on 127.0.0.1 port" in ready.welcome
    assert "keys none are asked for" in ready.welcome
    assert ready.welcome.endswith(NOTICE)


def test_the_welcomes_command_can_be_pasted(ready: Service) -> None:
    """The shell reads it as one command, and its body is a request that is scored."""
    command = ready.stdout[ready.stdout.index("curl") :].split("\n\n")[0]
    arguments = shlex.split(command)
    body = arguments[arguments.index("-d") + 1]
    reply = httpx.post(arguments[2], content=body.encode())

    assert all(len(line) <= 80 for line in command.splitlines())
    assert reply.json()["results"][0]["status"] == "scored"


def has_both_families() -> bool:
    """Whether this machine has IPv6, and sockets that take both families."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return socket.has_dualstack_ipv6()


@pytest.mark.skipif(not has_both_families(), reason="this machine has no IPv6")
def test_every_address_is_that_of_both_families() -> None:
    """`::` listens on IPv4 too, at the port for callers and at that for operators."""
    admin_port = free_port()
    with serving(None, **SCRIPTED, host="::", admin_port=admin_port, api_keys="k") as service:
        port = httpx.URL(service.url).port
        found = [
            httpx.get(f"http://{host}:{at}/livez", trust_env=False).status_code
            for host in ("127.0.0.1", "[::1]")
            for at in (port, admin_port)
        ]

    assert found == [200] * 4


def test_the_welcome_names_no_key() -> None:
    """The command to paste reads it from the environment."""
    with serving(None, api_keys="hunter2", **SCRIPTED) as service:
        assert httpx.get(f"{service.url}/version").status_code == 401

    assert "every request has to send one; 1 known" in service.welcome
    assert '-H "Authorization: Bearer $MEDREWARD_KEY"' in service.welcome
    assert "hunter2" not in service.welcome


@pytest.mark.parametrize(("number", "delay_s"), [(signal.SIGTERM, 0), (signal.SIGINT, 600)])
def test_it_stops_when_asked(number: signal.Signals, delay_s: int) -> None:
    """Both signals end it in order, and that is no failure; Ctrl-C waits for nobody to notice."""
    with serving(None, drain_delay_s=delay_s, **SCRIPTED) as service:
        code = service.stop(number)

    assert code == 0
    assert "Traceback" not in service.stderr
    assert service.stderr.endswith("stopped\n")


def test_told_to_end_it_serves_until_its_callers_can_know() -> None:
    """Unready at once, serving during the delay; a second signal ends that, and it is gone."""
    sample = {"response": "<answer>left</answer>", "reference": "left"}
    with serving(None, admin_port=0, drain_delay_s=600, **SCRIPTED) as service:
        (admin,) = re.findall(r"admin (http://\S+)/readyz", service.welcome)
        before = httpx.get(f"{admin}/readyz").status_code
        service.send(signal.SIGTERM)
        wait_until(lambda: httpx.get(f"{admin}/readyz").status_code == 503)
        served = httpx.post(f"{service.url}/reward", json={"samples": [sample]})
        code = service.stop(signal.SIGTERM)

    assert before == 200
    assert served.json()["results"][0]["status"] == "scored"
    assert served.headers["connection"] == "close"
    assert code == 0
    assert service.stderr.endswith("stopped\n")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{admin}/readyz")


def test_the_delay_ends_by_itself() -> None:
    """The log, one JSON object a line, tells its course; one signal is enough."""
    with serving(None, drain_delay_s=0.5, **SCRIPTED) as service:
        httpx.get(f"{service.url}/version")
        code = service.stop(signal.SIGTERM)
    lines = [line for line in service.stderr.splitlines() if line.startswith("{")]

    assert code == 0
    events = [json.loads(line)["event"] for line in lines]
    # The request is logged behind its reply, so the signal may come between the two.
    assert sorted(events[1:3]) == ["draining", "request"]
    assert [events[0], *events[3:]] == ["ready", "drained"]


@pytest.mark.anyio
async def test_it_ends_if_an_engine_is_lost_for_good() -> None:
    """With the reason, and the exit code by which whatever runs it starts it again."""
    judge = TroubledJudge(raising(BackendDown("its process died")))
    app = create_app(
        Settings(recipe="medix-r1", lost_engine_s=1e-9), judge=judge, embedder=HashedEmbedder()
    )
    sample = {"response": "<answer>basal left</answer>", "reference": "left lower lobe"}
    server = uvicorn.Server(server_config(app))
    async with over_asgi(app) as client:
        waiting = asyncio.create_task(asyncio.to_thread(wait_for_end, app.state.service, server))
        for _ in range(3):
            await client.post("/reward", json={"samples": [sample]})
        with pytest.raises(CommandError, match=r"the judge was lost .*its process died"):
            await waiting

    assert server.should_exit


@pytest.mark.slow
@pytest.mark.models
def test_it_ends_though_the_thread_of_its_model_hangs() -> None:
    """With exit code 1 and the reason in one line; what was asked meanwhile is unscored."""
    late = {"judge_timeout_s": 2.0, "deadline_s": 30.0, "lost_engine_s": 1.0}
    with serving(None, embedder="hashed", **late) as service:

        def ask(mark: str) -> dict[str, Any]:
            answer = f"<answer>{mark} " + "of the left lung " * 20 + "</answer>"
            sample = {"response": answer, "reference": "left lower lobe"}
            reply = httpx.post(f"{service.url}/reward", json={"samples": [sample]}, timeout=60.0)
            result: dict[str, Any] = reply.json()["results"][0]
            return result

        before = cpu_ns(service.pid)
        wait_until(lambda: ask("base")["status"] == "scored")
        used = {thread: ns - before.get(thread, 0) for thread, ns in cpu_ns(service.pid).items()}
        with hanging_to_the_end(max(used, key=used.__getitem__)):
            unscored = [ask(mark) for mark in ("apex", "hilum", "lingula")]
        code = service.wait()

    reason = "the judge was lost and has not come back for 1 s (MEDREWARD_LOST_ENGINE_S): "
    assert [result["error"]["kind"] for result in unscored] == ["judge_timeout"] * 3
    assert code == 1
    assert service.stderr.splitlines()[-1].startswith(f"medreward: {reason}")
    assert service.stderr.count("medreward: ") == 1
    assert "Traceback" not in service.stderr


@pytest.mark.parametrize("is_file", [False, True])
def test_a_misspelt_setting_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: Run, *, is_file: bool
) -> None:
    """A key in a variable or a file that nobody reads would leave the door open."""
    if is_file:
        (tmp_path / "medreward_api_key").write_text("hunter2")
        monkeypatch.setenv("MEDREWARD_SECRETS_DIR", str(tmp_path))
    else:
        monkeypatch.setenv("MEDREWARD_API_KEY", "hunter2")

    told = run("serve", "--port", "0")

    assert told.code == 2
    assert "MEDREWARD_API_KEY is no setting; did you mean MEDREWARD_API_KEYS?" in told.stderr
    assert "hunter2" not in told.stderr


@pytest.mark.usefixtures("no_models")
def test_a_taken_port_is_named(run: Run) -> None:
    """With the option that chooses another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = run("serve", "--port", str(port))

    assert told.code == 2
    assert told.stderr.count("\n") == 1
    assert f"cannot listen on 127.0.0.1 port {port} (Address already in use)" in told.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "::"], "set MEDREWARD_API_KEYS"),
        (["--profile", "cloud"], "MEDREWARD_PROFILE: Input should be 'embedded', 'embedded-small'"),
        (["--recipe", "medix"], "MEDREWARD_RECIPE='medix'; choose from medix-r1"),
    ],
)
def test_a_wrong_option_is_told_in_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, options: list[str], said: str
) -> None:
    """It names the variable, whose own value counts for nothing beside an option, and ends with 2."""
    monkeypatch.setenv("MEDREWARD_RECIPE", "medix-r1")
    told = run("serve", *options)

    assert told.code == 2
    assert told.stderr.count("\n") == 1
    assert said in told.stderr


def test_what_commands_find_a_service_by_is_no_misspelt_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever grades and serves in one shell has both."""
    for name in ("MEDREWARD_URL", "MEDREWARD_KEY"):
        monkeypatch.setenv(name, "http://rewards:8080")

    assert misspelt_variables() == {}


def test_models_that_cannot_be_loaded_end_it(
    run_apart: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the reason, instead of a service that is never ready."""
    monkeypatch.setenv("MEDREWARD_JUDGE", "causal_lm")
    monkeypatch.setenv("MEDREWARD_JUDGE_MODEL", "qwen2.5-coder-1.5b-instruct")
    monkeypatch.setenv("MEDREWARD_EMBEDDER", "hashed")
    monkeypatch.setenv("MEDREWARD_MODELS_DIR", str(tmp_path))
    told = run_apart("serve", "--port", "0")

    assert told.code == 1
    last = told.stderr.splitlines()[-1]
    assert "run `medreward models fetch qwen2.5-coder-1.5b-instruct`" in last
    assert "Traceback" not in told.stderr


@pytest.mark.usefixtures("no_models")
def test_a_judge_that_does_not_pass_a_required_exam_ends_it(
    run_apart: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what it gets wrong in one line, and no welcome."""
    monkeypatch.setenv("MEDREWARD_EXAM", "require")
    told = run_apart("serve", "--port", "0")

    assert told.code == 1
    line = told.stderr.splitlines()[-1]
    assert line.startswith("medreward: the judge's exam was failed with 0.5")
    assert "This judge says NO to 30 of 30 right answers, such as the same term in a " in line
    assert "Traceback" not in told.stderr
    assert "is ready" not in told.stdout


@pytest.mark.models
def test_the_small_models_say_what_they_are_worth(embedded_service: Service) -> None:
    """Nobody should train on them unawares, or grade reports."""
    words = embedded_service.welcome

    assert "medreward-verifier tells whether a short medical answer means" in words
    assert f"limits {LIMITS_WITHOUT_LLM}" in words
    assert "all-minilm-l6-v2 is a general model, not a medical one" in words
