"""What is wrong between here and a service: one look after another, each with what to do next."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException

from rich.console import Console
from rich.table import Table

from medreward_client._cli import inside, outside
from medreward_client._cli.case import Case, Ill, Odd
from medreward_client._cli.terminal import output, shown

LOOKS: Mapping[str, Callable[[Case], str | Odd]] = {
    "URL": outside.look_at_url,
    "proxy": outside.look_at_proxy,
    "name": outside.look_at_name,
    "port": outside.look_at_port,
    "HTTP": outside.look_at_http,
    "service": outside.look_at_service,
    "key": inside.look_at_key,
    "versions": inside.look_at_versions,
    "engines": inside.look_at_engines,
    "rewards": inside.look_at_scores,
    "distance": inside.look_at_distance,
    "clock": inside.look_at_clock,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look found, and what to do about it; neither well nor ill is worth knowing."""

    look: str
    is_well: bool | None
    found: str
    advice: str = ""


def examine(case: Case) -> Iterator[Finding]:
    """Look at one thing after another, until one stands in the way of the rest."""
    for look, take in LOOKS.items():
        try:
            seen = take(case)
        except Ill as exc:
            yield Finding(look, False, exc.found, exc.advice)
            return
        except (OSError, HTTPException) as exc:
            found = f"the connection broke off ({type(exc).__name__})"
            yield Finding(
                look, False, found, "ask again; if it stays so, look at the service's log"
            )
            return
        if isinstance(seen, Odd):
            yield Finding(look, None, seen.found, seen.advice)
        else:
            yield Finding(look, True, seen)


def print_findings(findings: Iterable[Finding]) -> bool:
    """Print findings as they come; True if nothing is ill."""
    console = output()
    ill = 0
    for finding in findings:
        console.print(_row(finding, console))
        ill += finding.is_well is False
    last = "Mend this, and ask again." if ill else "All is well."
    console.print(shown(last, "bold red" if ill else "bold green"))
    return not ill


def _row(finding: Finding, console: Console) -> Table:
    has_signs = console.encoding.lower().startswith("utf")
    sign, style = {
        True: ("✓" if has_signs else "+", "green"),
        None: ("!", "yellow"),
        False: ("✗" if has_signs else "x", "red"),
    }[finding.is_well]
    row = Table.grid(padding=(0, 1))
    row.add_column(width=1)
    row.add_column(width=8)
    row.add_column(overflow="fold")
    row.add_row(shown(sign, style), shown(finding.look, "bold"), shown(finding.found))
    if finding.advice:
        arrow = "→" if has_signs else "->"
        row.add_row("", "", shown(f"{arrow} {finding.advice}", style))
    return row
