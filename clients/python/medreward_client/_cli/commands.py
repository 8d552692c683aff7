"""The commands and their options; other modules do the work."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from medreward_client import trainers
from medreward_client._cli.doctor import diagnose
from medreward_client._cli.sample_file import SampleFile
from medreward_client._cli.target import Target
from medreward_client._cli.terminal import Misuse, failing_in_words
from medreward_client._client import RewardClient
from medreward_client._many import BATCH, IN_FLIGHT, Tally, score_many
from medreward_client.terminal import (
    FAILED,
    INTERRUPTED,
    command,
    examples,
    output,
    shown,
    tell,
    version_printer,
)

PATH_TRAINERS = ("easyr1", "ms_swift", "openrlhf")
"""Trainers that load a file by its path."""

app = command("medreward-client")

URL_VARIABLE = "MEDREWARD_URL"
KEY_VARIABLE = "MEDREWARD_API_KEY"

UrlArgument = Annotated[
    str,
    typer.Argument(
        metavar="URL", envvar=URL_VARIABLE, help="The service, such as http://rewards:8080."
    ),
]
UrlOption = Annotated[
    str,
    typer.Option(
        "--url",
        metavar="URL",
        envvar=URL_VARIABLE,
        help="The service, such as http://rewards:8080.",
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        envvar=KEY_VARIABLE,
        show_default=False,
        help="The service's key; better set in the environment, which no list of processes shows.",
    ),
]
Recipe = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The recipe; the service's default if omitted."),
]


@app.callback()
def medreward_client_(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            callback=version_printer("medreward-client"),
            help="Show the version and exit.",
        ),
    ] = False,
) -> None:
    """Score free-form medical answers with a medreward service.

    Rewards are for research and training, not for clinical use.
    """


@app.command(
    epilog=examples(
        "medreward-client doctor http://rewards:8080",
        "MEDREWARD_API_KEY=... medreward-client doctor https://rewards.example.org",
    )
)
@failing_in_words()
def doctor(
    url: UrlArgument,
    *,
    api_key: ApiKey = None,
    recipe: Recipe = None,
    timeout_s: Annotated[
        float,
        typer.Option("--timeout", metavar="SECONDS", min=0.1, help="Timeout of one check."),
    ] = 5.0,
) -> None:
    """Diagnose the connection to a service in plain words, with advice.

    The exit code is 0 if two samples were scored plausibly, and 1 otherwise.
    """
    _leave_retries_untold()
    raise typer.Exit(0 if diagnose(Target(url, api_key, recipe, timeout_s)) else FAILED)


@app.command(
    epilog=examples(
        "medreward-client score rollouts.jsonl --out rewards.jsonl --url http://rewards:8080",
        "medreward-client score - --out rewards.jsonl < rollouts.jsonl",
    )
)
@failing_in_words()
def score(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.jsonl", help="One /reward sample a line; - is standard input."
        ),
    ],
    *,
    out: Annotated[
        Path,
        typer.Option(
            metavar="OUT.jsonl", help="The file of results, one a line, written as they arrive."
        ),
    ],
    url: UrlOption,
    api_key: ApiKey = None,
    recipe: Recipe = None,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="Samples in a request.")] = BATCH,
    in_flight: Annotated[
        int, typer.Option(min=1, metavar="N", help="Concurrent requests.")
    ] = IN_FLIGHT,
    deadline_s: Annotated[
        float | None,
        typer.Option(
            "--deadline",
            metavar="SECONDS",
            min=0.001,
            help="Deadline of a request, retries included; an hour by default.",
        ),
    ] = None,
) -> None:
    """Score a file of samples; run it again to continue an interrupted run.

    Samples with a reward in OUT.jsonl are skipped; the rest is sent, if need be again.

    The last line of an id counts. A missing reward is never 0: it makes the exit code 1.
    """
    samples = SampleFile(file)
    _check_out(out, file)
    with _client(url, api_key) as client:
        try:
            tally = score_many(
                client,
                samples,
                out,
                recipe=recipe,
                deadline_s=deadline_s,
                batch=batch,
                in_flight=in_flight,
            )
        except KeyboardInterrupt:
            tell(f"interrupted; {out} keeps what was answered: run the same command again to go on")
            raise typer.Exit(INTERRUPTED) from None
    for name, reason in tally.refused.items():
        tell(f"line {samples.line_of(name)} ({name}): {reason}", "yellow")
    _print_tally(tally, out)
    raise typer.Exit(FAILED if tally.unscored else 0)


@app.command("health", epilog=examples("medreward-client health http://rewards:8080"))
@failing_in_words()
def health_(url: UrlArgument, *, api_key: ApiKey = None) -> None:
    """Show the readiness of a service and its engines; the exit code is 0 if it is ready, else 1."""
    _leave_retries_untold()
    with _client(url, api_key) as client:
        health = client.health()
    console = output()
    style = {"ready": "green", "degraded": "yellow"}.get(health.status, "red")
    console.print(shown(health.status, style))
    for role, engine in health.engines.items():
        state = "ready" if engine.ready else engine.message
        console.print(shown(f"{role:8} {engine.model}: {state}"), soft_wrap=True)
    if health.cache:
        console.print(shown(f"{'cache':8} {health.cache}"), soft_wrap=True)
    raise typer.Exit(0 if health.ready else FAILED)


@app.command(epilog=examples("medreward-client path easyr1"))
@failing_in_words()
def path(
    trainer: Annotated[
        str, typer.Argument(metavar="TRAINER", help=f"One of {', '.join(PATH_TRAINERS)}.")
    ],
) -> None:
    """Print the path of a trainer's adapter, for trainers that load a file by its path."""
    if trainer not in PATH_TRAINERS:
        raise Misuse(f"no trainer {trainer!r} takes a path; choose from {', '.join(PATH_TRAINERS)}")
    typer.echo(Path(trainers.__path__[0]) / f"{trainer}.py")


def _leave_retries_untold() -> None:
    """Silence the client's log of retries, since the command prints the outcome."""
    logging.getLogger("medreward_client").setLevel(logging.ERROR)


def _client(url: str, api_key: str | None) -> RewardClient:
    try:
        return RewardClient(url, api_key=api_key)
    except ValueError as exc:
        raise Misuse(str(exc)) from exc


def _check_out(out: Path, file: Path) -> None:
    try:
        if out.is_dir():
            raise Misuse(f"--out: {out} is a folder; name a file")
        if not out.parent.is_dir():
            raise Misuse(f"--out: no folder {out.parent}; make it first")
        if out.exists() and not out.is_file():
            raise Misuse(
                f"--out: {out} is a pipe or a device, which the next run cannot read; name a file"
            )
        if out.exists() and file.exists() and out.samefile(file):
            raise Misuse(f"--out: {out} is the file that is read; name another")
    except OSError as exc:
        raise Misuse(f"--out: {out} cannot be a file ({exc.strerror}); name another") from exc


def _print_tally(tally: Tally, out: Path) -> None:
    before = f" ({tally.found:,} of them before)" if tally.found else ""
    console = output()
    console.print(shown(f"{tally.scored:,} scored{before}, {tally.unscored:,} unscored: {out}"))
    for kind, number in sorted(tally.reasons.items()):
        console.print(shown(f"  {number:,} {kind}", "yellow"))
    if tally.unscored:
        console.print(shown("Run the same command again to ask about the unscored once more."))
