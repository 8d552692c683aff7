"""`medreward serve`, and other programs, as processes of their own.

Nothing of the server is imported: trainers' environments have the client alone.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from tests.support.judge_server import MODEL, Models, Rule, Say, equal_is_yes
from tests.support.wait import wait_until

START_LIMIT_S = 600.0
STOP_LIMIT_S = 60.0
ENDING = "not for clinical use"
"""The last words of the welcome, which is printed when the service is ready."""


class Program:
    """A process that can be signalled, killed and started again, and what it has written."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.command = command
        self.environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._stdout, self._stderr = _Output(), _Output()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()
        self._stdout.close()
        self._stderr.close()

    @property
    def pid(self) -> int:
        """The number of the process."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def stdout(self) -> str:
        """Everything written to standard output since the last start."""
        return self._stdout.text

    @property
    def stderr(self) -> str:
        """Everything written to standard error since the last start."""
        return self._stderr.text

    def spawn(self, *, process_group: int | None = None) -> None:
        """Start it; a group of 0 is one of its own, as a terminal makes it."""
        self._process = subprocess.Popen(  # noqa: S603 - the program under test
            self.command,
            env=self.environment,
            stdout=self._stdout.emptied(),
            stderr=self._stderr.emptied(),
            process_group=process_group,
        )

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait until it has ended; returns its exit status, -9 if it had to be killed."""
        assert self._process is not None
        try:
            return self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it by a signal; returns its exit status."""
        self.send(number)
        return self.wait()

    def kill(self) -> None:
        """End it as a crash would, in the middle of whatever it does, if it runs at all."""
        if self._process is not None:
            self.stop(signal.SIGKILL)


class _Output:
    """The text of one of a process's streams, kept beyond its end."""

    def __init__(self) -> None:
        # A file, since a pipe that nobody reads stops the process once it is full.
        self._file = tempfile.TemporaryFile("a+b")  # noqa: SIM115 - closed with its process
        self._text = ""

    @property
    def text(self) -> str:
        """Everything that came."""
        if not self._file.closed:
            # `read` would start where the process has just written, since both share one offset.
            file = self._file.fileno()
            self._text = os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace")
        return self._text

    def emptied(self) -> int:
        """Forget what an earlier process wrote; returns the file's number for the next one."""
        self._file.truncate(0)
        return self._file.fileno()

    def close(self) -> None:
        """Keep the text alone."""
        self._text = self.text
        self._file.close()


class Service(Program):
    """`medreward serve`; it can be killed, and comes back at the same address.

    *settings* are those of docs/settings.md, in lower case and without MEDREWARD; the profile is the
    small one unless they name another.
    """

    def __init__(self, *options: str, **settings: object) -> None:
        # The published recipe asks the engines whatever an answer says.
        usual = {"log_level": "warning", "recipe": "medix-r1", "profile": "embedded-small"}
        # An exam would put questions of its own to the judge that a test counts or measures.
        usual["exam"] = "off"
        chosen = {"port": 0, **usual, **settings}
        named = {f"MEDREWARD_{name.upper()}": str(value) for name, value in chosen.items()}
        super().__init__([medreward_command(), "serve", *options], bare_environment() | named)
        self.url = ""
        """The address, known once it was ready for the first time."""

    def start(self) -> None:
        """Start it and wait until it is ready.

        Raises:
            RuntimeError: it ended instead; with what it logged.
        """
        self.spawn()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait until it has printed its welcome, and read its address there.

        Raises:
            RuntimeError: it ended instead; with what it logged.
        """
        wait_until(lambda: ENDING in self.welcome or not self.is_running, seconds=START_LIMIT_S)
        found = re.search(r"is ready at (\S+:(\d+))", self.welcome)
        if found is None:
            raise RuntimeError(f"{self.command} did not get ready\n{self.stderr[-4000:]}")
        self.url = found[1]
        # After a crash it comes back where it was.
        self.environment["MEDREWARD_PORT"] = found[2]

    @property
    def welcome(self) -> str:
        """Standard output, without the line breaks that the width of a terminal makes."""
        return " ".join(self.stdout.split())


@contextmanager
def serving(models: Models | None, *options: str, **settings: object) -> Iterator[Service]:
    """Run a service with its engines at *models*, or with those that *settings* name."""
    remote = {
        "profile": "remote",
        "judge_way": "chat",
        "judge_url": models.url,
        "judge_model": MODEL,
        "embedder_url": models.url,
        "embedder_model": MODEL,
    } if models else {}  # fmt: skip
    with Service(*options, **{**remote, **settings}) as service:
        service.start()
        yield service


def dies_once(service: Service, answers: Sequence[str], deaths: list[str]) -> Rule:
    """Kill and restart the service while it awaits the first verdict about one of *answers*.

    The answer is added to *deaths*; all verdicts are those of `equal_is_yes`.
    """

    def rule(answer: str, reference: str) -> Say:
        if answer in answers and not deaths:
            deaths.append(answer)
            service.kill()
            service.start()
        return equal_is_yes(answer, reference)

    return rule


def medreward_command() -> str:
    """Find `medreward`: as MEDREWARD_COMMAND says, else beside this Python, else on the PATH.

    Raises:
        RuntimeError: there is none.
    """
    beside = Path(sys.executable).with_name("medreward")
    found = os.environ.get("MEDREWARD_COMMAND") or shutil.which(beside) or shutil.which("medreward")
    if found is None:
        raise RuntimeError("no `medreward` to serve with; name it in MEDREWARD_COMMAND")
    return found


def bare_environment() -> dict[str, str]:
    """This process's environment without settings, but for the place of the models."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MEDREWARD_") or name == "MEDREWARD_MODELS_DIR"
    }
