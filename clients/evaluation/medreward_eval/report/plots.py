"""Plots of the page as SVG, with colours from the page's style sheet.

Positions along the axis are in per cent of the width: a plot stretches with its column, while
marks and letters keep their shape.
"""

from collections.abc import Mapping
from typing import Final

from medreward_eval.report.markup import Markup, element, joined
from medreward_eval.statistics.scores import Estimate

TICKS: Final = (0, 25, 50, 75, 100)
HEIGHT: Final = 28
"""Height of a task's row, in pixels."""
CORRECTED_AT: Final = 19
"""Pixels from the top to the second mark of two; the first is as far from the bottom."""
BAR_WIDTH: Final = 44
BAR_GAP: Final = 8
BARS_HEIGHT: Final = 110
LABEL: Final = 18
"""Pixels for the label above each bar, and for the one below."""


def whiskers(accuracy: Estimate | None, corrected: Estimate | None) -> Markup:
    """Draw an accuracy with its interval, and the corrected one below it, from 0 to 100 %."""
    middle = HEIGHT / 2 if corrected is None else HEIGHT - CORRECTED_AT
    return element(
        "svg",
        *(_line("grid", tick, tick, 0, HEIGHT) for tick in TICKS),
        _whisker(accuracy, middle),
        _diamond(corrected),
        class_="whiskers",
        height=HEIGHT,
        aria_hidden="true",
    )


def axis() -> Markup:
    """Draw the numbers of the axis of `whiskers`."""
    return element(
        "svg",
        *(
            element("text", f"{tick}", x=f"{tick}%", y=12, text_anchor=_anchor(tick))
            for tick in TICKS
        ),
        class_="whiskers axis",
        height=16,
        aria_hidden="true",
    )


def histogram(counts: Mapping[int, int], label: str) -> Markup:
    """Draw how many reports got each score from 0 to 5."""
    most = max(counts.values(), default=0) or 1
    step = BAR_WIDTH + BAR_GAP
    bars = (_bar(score, counts.get(score, 0), most, score * step) for score in range(6))
    return element(
        "svg",
        *bars,
        class_="histogram",
        viewBox=f"0 0 {6 * step - BAR_GAP} {BARS_HEIGHT + 2 * LABEL}",
        role="img",
        aria_label=label,
    )


def _bar(score: int, count: int, most: int, left: int) -> Markup:
    # A score that occurs at all has a visible bar, however frequent the others are.
    height = max(count / most * BARS_HEIGHT, 1.5 if count else 0)
    top, middle = LABEL + BARS_HEIGHT - height, left + BAR_WIDTH / 2
    floor = LABEL + BARS_HEIGHT
    return joined(
        element("line", class_="floor", x1=left, x2=left + BAR_WIDTH, y1=floor, y2=floor),
        element(
            "rect", class_="bar", x=left, y=f"{top:.1f}", width=BAR_WIDTH, height=f"{height:.1f}"
        ),
        element("text", f"{count:,}", x=middle, y=f"{top - 5:.1f}", text_anchor="middle"),
        element("text", f"{score}", class_="score", x=middle, y=floor + 14, text_anchor="middle"),
    )


def _whisker(estimate: Estimate | None, middle: float) -> Markup:
    if estimate is None:
        return joined()
    low, high = estimate.interval
    return joined(
        _line("span", 100 * low, 100 * high, middle, middle),
        element("circle", class_="dot", cx=f"{100 * estimate.value:.2f}%", cy=middle, r=4),
    )


def _diamond(estimate: Estimate | None) -> Markup:
    """Draw a diamond; a path takes no per cent, so a nested SVG positions it."""
    if estimate is None:
        return joined()
    low, high = estimate.interval
    path = element("path", class_="diamond", d="M0,-4.5 4.5,0 0,4.5 -4.5,0Z")
    return joined(
        _line("span corrected", 100 * low, 100 * high, CORRECTED_AT, CORRECTED_AT),
        element("svg", path, x=f"{100 * estimate.value:.2f}%", y=CORRECTED_AT, overflow="visible"),
    )


def _line(name: str, x1: float, x2: float, y1: float, y2: float) -> Markup:
    return element("line", class_=name, x1=f"{x1:.2f}%", x2=f"{x2:.2f}%", y1=y1, y2=y2)


def _anchor(tick: int) -> str:
    return {0: "start", 100: "end"}.get(tick, "middle")
