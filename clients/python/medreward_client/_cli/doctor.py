"""The diagnosis of a connection: one check after another, each with advice."""

import textwrap
from collections.abc import Callable, Mapping
from http.client import HTTPException

from rich.console import Console

from medreward_client._cli import network_checks, service_checks
from medreward_client._cli.target import Caution, Failure, Target
from medreward_client.terminal import output, shown

NAME_WIDTH = 8
INDENT = NAME_WIDTH + 3

Check = Callable[[Target], str | Caution]

CHECKS: Mapping[str, Check] = {
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


def diagnose(target: Target) -> bool:
    """Run one check after another, and print what each finds; False at the first that fails."""
    console = output()
    with console.status("looking"):
        has_passed = all(
            _print(name, _result(check, target), console) for name, check in CHECKS.items()
        )
    last = "All is well." if has_passed else "Mend this, and ask again."
    console.print(shown(last, "bold green" if has_passed else "bold red"))
    return has_passed


def first_failure(target: Target) -> Failure | None:
    """Run the checks, and return the first failure."""
    results = (_result(check, target) for check in CHECKS.values())
    return next((result for result in results if isinstance(result, Failure)), None)


def _result(check: Check, target: Target) -> str | Caution | Failure:
    try:
        return check(target)
    except Failure as failure:
        return failure
    except (OSError, HTTPException) as exc:
        return Failure(
            f"the connection broke off ({type(exc).__name__})",
            "ask again; if it stays so, look at the service's log",
        )


def _print(name: str, result: str | Caution | Failure, console: Console) -> bool:
    """Print the result of a check, with advice if it has some; False if it failed."""
    has_signs = console.encoding.lower().startswith("utf")
    match result:
        case str():
            sign, style = "✓" if has_signs else "+", "green"
            found, advice = result, ""
        case Caution(found, advice):
            sign, style = "!", "yellow"
        case Failure(found=found, advice=advice):
            sign, style = "✗" if has_signs else "x", "red"
    head = shown(f"{sign} ", style).append(f"{name:{NAME_WIDTH}} ", "bold")
    console.print(head, shown(_folded(found, console)), sep="", soft_wrap=True)
    if advice:
        arrow = "→" if has_signs else "->"
        text = _folded(f"{arrow} {advice}", console)
        console.print(shown(" " * INDENT + text, style), soft_wrap=True)
    return not isinstance(result, Failure)


def _folded(text: str, console: Console) -> str:
    """Wrap a text in the column after the checks' names; unchanged without a terminal."""
    if not console.is_terminal:
        return text
    lines = textwrap.wrap(text, max(console.width - INDENT, 20), break_on_hyphens=False)
    return f"\n{' ' * INDENT}".join(lines)
