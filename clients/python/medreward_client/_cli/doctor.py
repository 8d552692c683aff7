"""The diagnosis of a connection: one check after another, each with advice."""

import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException

from rich.console import Console

from medreward_client._cli import inside, outside
from medreward_client._cli.case import Case, Ill, Odd
from medreward_client.terminal import output, shown

LOOK_WIDTH = 8
INDENT = LOOK_WIDTH + 3

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
    """The result of one check, and advice; `is_well` is None for a warning."""

    look: str
    is_well: bool | None
    found: str
    advice: str = ""


def examine(case: Case) -> Iterator[Finding]:
    """Run one check after another, up to the first that fails."""
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
    """Print findings as they arrive; True if no check failed."""
    console = output()
    ill = 0
    with console.status("looking"):
        for finding in findings:
            _print(finding, console)
            ill += finding.is_well is False
    last = "Mend this, and ask again." if ill else "All is well."
    console.print(shown(last, "bold red" if ill else "bold green"))
    return not ill


def _print(finding: Finding, console: Console) -> None:
    has_signs = console.encoding.lower().startswith("utf")
    sign, style = {
        True: ("✓" if has_signs else "+", "green"),
        None: ("!", "yellow"),
        False: ("✗" if has_signs else "x", "red"),
    }[finding.is_well]
    head = shown(f"{sign} ", style).append(f"{finding.look:{LOOK_WIDTH}} ", "bold")
    console.print(head, shown(_folded(finding.found, console)), sep="", soft_wrap=True)
    if finding.advice:
        arrow = "→" if has_signs else "->"
        text = _folded(f"{arrow} {finding.advice}", console)
        console.print(shown(" " * INDENT + text, style), soft_wrap=True)


def _folded(text: str, console: Console) -> str:
    """Wrap a text in the column after the checks' names; unchanged without a terminal."""
    if not console.is_terminal:
        return text
    lines = textwrap.wrap(text, max(console.width - INDENT, 20), break_on_hyphens=False)
    return f"\n{' ' * INDENT}".join(lines)
