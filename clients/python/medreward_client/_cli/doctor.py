"""The diagnosis of a connection: one check after another, each with advice."""

import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException

from rich.console import Console

from medreward_client._cli import network_checks, service_checks
from medreward_client._cli.target import Caution, Failure, Target
from medreward_client.terminal import output, shown

NAME_WIDTH = 8
INDENT = NAME_WIDTH + 3

CHECKS: Mapping[str, Callable[[Target], str | Caution]] = {
    "URL": network_checks.check_url,
    "proxy": network_checks.check_proxy,
    "name": network_checks.check_name,
    "port": network_checks.check_port,
    "HTTP": network_checks.check_http,
    "service": network_checks.check_service,
    "key": service_checks.check_key,
    "versions": service_checks.check_versions,
    "engines": service_checks.check_engines,
    "rewards": service_checks.check_scores,
    "distance": service_checks.check_distance,
    "clock": service_checks.check_clock,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check, and advice; `has_passed` is None for a warning."""

    check: str
    has_passed: bool | None
    found: str
    advice: str = ""


def diagnose(target: Target) -> Iterator[Finding]:
    """Run one check after another, up to the first that fails."""
    for name, check in CHECKS.items():
        try:
            result = check(target)
        except Failure as exc:
            yield Finding(name, False, exc.found, exc.advice)
            return
        except (OSError, HTTPException) as exc:
            found = f"the connection broke off ({type(exc).__name__})"
            yield Finding(
                name, False, found, "ask again; if it stays so, look at the service's log"
            )
            return
        if isinstance(result, Caution):
            yield Finding(name, None, result.found, result.advice)
        else:
            yield Finding(name, True, result)


def print_findings(findings: Iterable[Finding]) -> bool:
    """Print findings as they arrive; True if no check failed."""
    console = output()
    failed = 0
    with console.status("looking"):
        for finding in findings:
            _print(finding, console)
            failed += finding.has_passed is False
    last = "Mend this, and ask again." if failed else "All is well."
    console.print(shown(last, "bold red" if failed else "bold green"))
    return not failed


def _print(finding: Finding, console: Console) -> None:
    has_signs = console.encoding.lower().startswith("utf")
    sign, style = {
        True: ("✓" if has_signs else "+", "green"),
        None: ("!", "yellow"),
        False: ("✗" if has_signs else "x", "red"),
    }[finding.has_passed]
    head = shown(f"{sign} ", style).append(f"{finding.check:{NAME_WIDTH}} ", "bold")
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
