"""What a calibration looks like: what the maps mend, then where verdicts begin and what they cost."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from medreward.audit.fit import Fitted, Unfitted
from medreward.cli.reward_tables import NOTHING, plain_table
from medreward.cli.terminal import shown
from medreward.engines.calibration import ANY


def print_fits(console: Console, fits: Sequence[Fitted | Unfitted]) -> None:
    """Show each family's map and thresholds, and which families have none of their own."""
    fitted = [fit for fit in fits if isinstance(fit, Fitted)]
    if fitted:
        _print_maps(console, fitted)
        _print_thresholds(console, fitted)
        _print_promise(console, fitted[0])
    for fit in fits:
        if isinstance(fit, Unfitted) and fit.family != ANY:
            told = f"{fit.family} ({fit.labels} labels) has no entry of its own: {fit.reason}"
            console.print(shown(told, "yellow"), soft_wrap=True)


def _print_maps(console: Console, fitted: Sequence[Fitted]) -> None:
    table = plain_table("family", "labels", "right", "temperature", "bias", "ECE", "NLL", "Brier")
    for entry, before, after in ((fit.entry, fit.before, fit.after) for fit in fitted):
        table.add_row(
            entry.family,
            str(entry.labels),
            str(entry.positives),
            f"{entry.temperature:.3g}",
            f"{entry.bias:.3g}",
            _change(before.ece, after.ece),
            _change(before.nll, after.nll),
            _change(before.brier, after.brier),
        )
    console.print(table)


def _print_thresholds(console: Console, fitted: Sequence[Fitted]) -> None:
    table = plain_table(
        "family", "NO up to", "YES above", "abstains", "wrong, YES", "right, NO", "kappa", "AC1"
    )
    for fit in fitted:
        table.add_row(
            fit.entry.family,
            f"{fit.entry.no_below:.4f}",
            f"{fit.entry.yes_above:.4f}",
            f"{fit.entry.abstained:.1%}",
            _change(*fit.false_yes),
            _change(*fit.false_no),
            _agreement(fit.agreement.cohen_kappa),
            _agreement(fit.agreement.gwet_ac1),
        )
    console.print(table)


def _print_promise(console: Console, fit: Fitted) -> None:
    """Say what is certified, and of what."""
    entry = fit.entry
    told = (
        f"Of answers like those labelled, at most {entry.alpha_fpr:.1%} of the wrong ones get a YES "
        f"and {entry.alpha_fnr:.1%} of the right ones a NO, each with {entry.confidence:.0%} "
        "confidence. NLL, Brier and ECE after calibration are of labels that their map did not see."
    )
    console.print(Text(told, "dim"))


def _change(before: float, after: float) -> str:
    return f"{before:.3f} to {after:.3f}"


def _agreement(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}"
