"""A report card on the terminal: the bars, then one row a stratum."""

from rich.console import Console
from rich.text import Text

from medreward.audit.page import STATUS, percent
from medreward.audit.report import Card, Stratum
from medreward.audit.targets import Bar, Status, bars
from medreward.cli.reward_tables import NOTHING, facts_grid, number, plain_table, short
from medreward.cli.terminal import shown

STYLES: dict[Status, str] = {"met": "green", "missed": "red", "unknown": "yellow"}


def print_card(console: Console, card: Card) -> None:
    """Show what the page tells, in short."""
    _print_strata(console, card)
    _print_bars(console, card)
    audited = card.audited
    facts: dict[str, Text | str] = {
        "judge": shown(audited.judge),
        "embedder": shown(audited.embedder),
        "recipe": shown(f"{audited.recipe} {short(audited.recipe_fingerprint)}"),
        "cases": shown(audited.cases),
    }
    if card.lost.hits:
        facts["lost"] = Text(f"{card.lost.hits} of {card.lost.of}: an engine was away", "red")
    console.print(facts_grid(facts))


def _print_strata(console: Console, card: Card) -> None:
    table = plain_table(
        "suite", "stratum", "cases", "judged YES", "paid", "refused", "unscored", "mean reward"
    )
    for stratum in card.strata:
        table.add_row(*_row(stratum))
    console.print(table)


def _row(stratum: Stratum) -> list[str | Text]:
    return [
        stratum.suite,
        shown(stratum.title),
        f"{stratum.cases:,}",
        percent(stratum.yes.share),
        percent(stratum.paid.share),
        percent(stratum.refused.share),
        shown(", ".join(f"{kind} {count}" for kind, count in stratum.unscored.items()) or NOTHING),
        number(stratum.mean_reward),
    ]


def _print_bars(console: Console, card: Card) -> None:
    table = plain_table("bar", "measures", "limit", "value", "of", "")
    for bar in bars(card):
        status = Text(STATUS[bar.status], STYLES[bar.status])
        table.add_row(bar.name, bar.measures, _limit(bar), _value(bar), f"{bar.of:,}", status)
    console.print(table)


def _limit(bar: Bar) -> str:
    sign = "≤" if bar.is_ceiling else "≥"
    return f"{sign} {100 * bar.limit:g}%" if bar.is_share else f"{sign} {bar.limit:g}"


def _value(bar: Bar) -> str:
    return percent(bar.value) if bar.is_share else number(bar.value)
