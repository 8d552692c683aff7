"""`medreward serve`: the service, until it is stopped."""

import logging
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import FrameType
from typing import Any

import structlog
import uvicorn
from rich.console import Console
from rich.text import Text

import medreward
from medreward.app import create_app
from medreward.cli.client import loading_text, reasons
from medreward.cli.environment import misspelt_variables, read_settings, without_password
from medreward.cli.options import KEY_VARIABLE
from medreward.cli.tables import facts_grid, print_disclaimer, short
from medreward.cli.terminal import (
    CommandError,
    Misuse,
    messages,
    output,
    shown,
    silence_other_bars,
    waiting,
)
from medreward.http.admin import administering
from medreward.http.server import (
    Bounds,
    collect_garbage_seldom,
    connections_within,
    raise_file_limit,
    server_config,
)
from medreward.offload import switch_often
from medreward.service import Service
from medreward.settings import Choice, Settings
from medreward.telemetry import logs
from medreward.telemetry.tracing import exporting

log = structlog.get_logger(__name__)

POLL_S = 0.1
CLOSE_S = 30.0
"""Seconds for closing engines and connections after the last request."""
BACKLOG = 2048
"""Length of the accept queue; a trainer opens hundreds of connections at once."""
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - recognised, not chosen
BODY = """{"samples": [{
    "response": "<X_RAY><thinking>…</thinking><answer>Lower left lobe</answer>",
    "reference": "left lower lobe", "modality": "X_RAY"}]}"""


def serve(**options: Any) -> None:
    """Run the service; options that are not None override the environment.

    Raises:
        Misuse: a setting is wrong, or the address cannot be listened on.
        SetupError: a setting names something that does not exist.
        CommandError: the engines cannot be loaded, or the judge does not pass a required exam.
    """
    settings = read_settings(**options)
    misspelt = [f"{name} is no setting; {mend}" for name, mend in misspelt_variables().items()]
    if misspelt:
        raise Misuse("; ".join(misspelt))
    _configure_logs(settings)
    silence_other_bars()
    # The ports are bound before the engines load, so that a port in use fails the command
    # immediately, not after minutes of loading.
    app = create_app(settings)
    listener = _listen(settings.host, settings.port)
    admin_listener = None
    if settings.admin_port is not None:
        admin_host = settings.admin_host or settings.host
        admin_listener = _listen(admin_host, settings.admin_port, "admin-")
    service: Service = app.state.service
    files = raise_file_limit()
    bounds = Bounds(
        head_s=settings.head_timeout_s,
        body_s=settings.body_timeout_s,
        reply_s=settings.reply_timeout_s,
        idle_s=settings.idle_timeout_s,
        connections=connections_within(files, settings.max_connections),
    )
    handler = logs.write_from_thread(service.metrics.log_lines_dropped.inc)
    config = server_config(
        app, bounds, backlog=BACKLOG, timeout_graceful_shutdown=math.ceil(settings.longest_drain_s)
    )
    server = LeavingServer(config, service)
    # uvicorn handles these signals while it serves, and raises them again after its shutdown. The
    # process has then ended successfully, and must not exit with the code of a signal.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    switch_often()
    with (
        exporting(role=settings.role, is_on=settings.traces),
        administering(service, admin_listener),
        ThreadPoolExecutor(1, "announcing") as pool,
    ):
        announcing = pool.submit(
            _announce, service, server, listener.getsockname()[1], admin_listener, bounds
        )
        try:
            server.run(sockets=[listener])
        finally:
            server.should_exit = True
        announcing.result()
    if handler.is_written():
        # A message to a full pipe that nobody reads would keep the process for ever.
        messages().print(shown("stopped"))


class LeavingServer(uvicorn.Server):
    """A server that drains at SIGTERM: requests in flight and new ones are served until it ends."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._is_leaving = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain at the first SIGTERM; end immediately at a second one, and at Ctrl-C."""
        drain = self._service.lifecycle
        is_serving = self._service.status == "ready"
        if sig != signal.SIGTERM or not is_serving or self._is_leaving or self.should_exit:
            super().handle_exit(sig, frame)
            return
        self._is_leaving = True
        drain.begin()
        threading.Thread(target=self._leave, args=(sig, frame), name="leaving", daemon=True).start()

    def _leave(self, sig: int, frame: FrameType | None) -> None:
        drain, delay_s = self._service.lifecycle, self._service.settings.drain_delay_s
        # Here and not in the handler of the signal, which may interrupt a call that logs or counts.
        log.info("draining", in_flight=drain.in_flight, delay_s=delay_s)
        is_done = drain.wait()
        log.info("drained", is_done=is_done, in_flight=self._service.lifecycle.in_flight)
        if not is_done:
            # The drain has used up its time, so the remaining requests get one second instead of
            # the whole drain time again.
            self.config.timeout_graceful_shutdown = 1
        super().handle_exit(sig, frame)


def _configure_logs(settings: Settings) -> None:
    """Use the console format if stderr is a terminal, unless the environment sets a format."""
    is_chosen = "log_format" in settings.model_fields_set
    is_watched = sys.stderr.isatty()
    logs.configure(
        settings.log_level, "console" if is_watched and not is_chosen else settings.log_format
    )
    if is_watched:
        # The spinner and the welcome text report loading already, and a log line would break the
        # spinner's line.
        logging.getLogger("medreward.engines.supervisor").setLevel(logging.CRITICAL)


def _listen(host: str, port: int, which: str = "") -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # `::` is every address of this machine, those of IPv4 too if the system can.
    has_both = host == "::" and socket.has_dualstack_ipv6()
    try:
        return socket.create_server(
            (host, port), family=family, backlog=BACKLOG, dualstack_ipv6=has_both
        )
    except OSError as exc:
        # Python appends the address to some of these messages, which the text below has already.
        reason = (exc.strerror or "unknown").partition(" (while")[0]
        variable = f"MEDREWARD_{which.upper().replace('-', '_')}"
        raise Misuse(
            f"cannot listen on {host} port {port} ({reason}): choose others by --{which}host and "
            f"--{which}port, or {variable}HOST and {variable}PORT"
        ) from exc


def _announce(
    service: Service,
    server: uvicorn.Server,
    port: int,
    admin: socket.socket | None,
    bounds: Bounds,
) -> None:
    """Show what is loaded or examined, then print the loaded engines and an example request."""
    started = time.perf_counter()
    with waiting(loading_text(service.readiness)) as say:
        while service.status == "loading" and not server.should_exit:
            say(loading_text(service.readiness))
            time.sleep(POLL_S)
    if service.status == "failed":
        # This runs in a thread: the flag ends `server.run` in the main thread, which then raises
        # this error from `announcing.result`.
        server.should_exit = True
        raise CommandError(service.examiner.refusal or reasons(service.readiness))
    if service.status == "ready":
        collect_garbage_seldom()
        admin_port = None if admin is None else admin.getsockname()[1]
        seconds = time.perf_counter() - started
        # Where standard output is closed or full, the welcome is lost; the service runs.
        with suppress(OSError):
            _print_welcome(output(), service, port, admin_port, seconds=seconds, bounds=bounds)
    try:
        wait_for_end(service, server)
    except CommandError:
        # A thread that hangs in an engine would keep the process after its last request.
        last_resort = threading.Timer(
            service.settings.longest_drain_s + CLOSE_S,
            os._exit,
            args=(1,),
        )
        last_resort.daemon = True
        last_resort.start()
        raise


def wait_for_end(service: Service, server: uvicorn.Server) -> None:
    """Wait until the server ends, and end it if an engine of this process is lost for good.

    Raises:
        CommandError: an engine is; whatever runs this process should start it again.
    """
    while not server.should_exit:
        if (reason := service.engines.given_up) is not None:
            log.error("engine_given_up", reason=reason)
            server.should_exit = True
            raise CommandError(reason)
        time.sleep(POLL_S)


def _print_welcome(
    console: Console,
    service: Service,
    port: int,
    admin_port: int | None,
    *,
    seconds: float,
    bounds: Bounds,
) -> None:
    settings, engines = service.settings, service.engines.readiness.engines
    url = _url(settings.host, port)
    console.print(Text(f"medreward {medreward.__version__} is ready at {url}", "bold green"))
    facts: dict[str, str | Text] = {
        **{f"  {role}": shown(_described(service, role)) for role in engines},
        **_limits(service),
        "  loaded": f"in {seconds:.1f} s",
        **_part(service),
        "  listens": shown(f"on {settings.host} port {port}; {url}/docs tells the routes"),
        "  accepts": f"{bounds.connections} connections",
    }
    if admin_port is not None:
        admin_url = _url(settings.admin_host or settings.host, admin_port)
        facts["  admin"] = shown(f"{admin_url}/readyz, /metrics, /drain")
    console.print(facts_grid(facts | {"  keys": _keys(settings)}))
    if not _is_part(settings):
        console.print(Text("\nTry it from another terminal:\n", "bold"))
        console.print(shown(_curl(url, has_keys=bool(settings.api_keys))), soft_wrap=True)
    print_disclaimer(console, engines)


def _limits(service: Service) -> dict[str, Text | str]:
    """Return what the judge of this process cannot read, if it has one without a language model."""
    limits = None if service.settings.role == "embed" else service.engines.judge_limits
    return {} if limits is None else {"  limits": shown(limits, "yellow")}


def _is_part(settings: Settings) -> bool:
    return settings.role in {"judge", "embed"}


def _part(service: Service) -> dict[str, str | Text]:
    """Return the recipe of a process that scores, or the role of one that only runs an engine."""
    if _is_part(service.settings):
        return {"  role": f"{service.settings.role}, for processes that ask it"}
    recipe = service.recipe(None)
    return {"  recipe": shown(f"{recipe.name} {short(service.fingerprint(recipe))}")}


def _described(service: Service, role: str) -> str:
    settings, state = service.settings, service.engines.readiness.engines[role]
    if role == "embedder":
        choice, urls = settings.embedder_choice, settings.embedder_url
    else:
        choice, urls = settings.judge_choice, settings.judge_url
    if choice.engine == "role":
        return _engine(choice._replace(model=state.model), urls)
    llm = settings.llm_choice if role == "judge" else None
    return ", ".join(_engine(one, urls) for one in (choice, llm) if one is not None)


def _engine(choice: Choice, urls: Sequence[str]) -> str:
    shown_urls = ", ".join(map(without_password, urls))
    where = f"at {shown_urls}" if choice.engine in {"openai", "role"} and urls else ""
    return " ".join(part for part in (choice.model, f"({choice.engine})", where) if part)


def _keys(settings: Settings) -> str:
    if settings.api_keys:
        return f"every request has to send one; {len(settings.api_keys)} known"
    return "none are asked for"


def _url(host: str, port: int) -> str:
    """Return the URL by which this machine reaches the service."""
    host = EVERYWHERE.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _curl(url: str, *, has_keys: bool) -> str:
    """Return an example curl command with the name of the key's variable, never the key."""
    parts = [f"curl -s {url}/reward"]
    if has_keys:
        parts.append(f'-H "Authorization: Bearer ${KEY_VARIABLE}"')
    parts += ["-H 'Content-Type: application/json'", f"-d '{BODY}'"]
    return " \\\n  ".join(parts)
