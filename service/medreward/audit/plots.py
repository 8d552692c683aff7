"""The plots of a report card, as SVG with the colours of the page's stylesheet."""

from collections.abc import Iterator, Sequence

from medreward.audit.figures import Bin, Point, Rate
from medreward.audit.markup import Markup, join, tag

SIDE = 200
"""Inner width and height of a square plot, in the units of its view box."""
LEFT, RIGHT, TOP, BOTTOM = 40, 8, 8, 34
TICKS = (0.0, 0.5, 1.0)
WHISKER_WIDTH, WHISKER_HEIGHT = 72, 12
MOST_POINTS = 200
"""Most points of a curve; at this size more would not be visible."""


def roc_plot(curve: Sequence[Point], label: str) -> Markup:
    """Draw the share of accepted equivalent cases over the share of accepted different ones."""
    shown = thinned(curve)
    path = " ".join(f"{_x(p.false_positives)},{_y(p.true_positives)}" for p in shown)
    line = tag("polyline", class_="curve", points=path)
    return _square(label, "different ones accepted", "equivalent ones accepted", line)


def reliability_plot(bins: Sequence[Bin], label: str) -> Markup:
    """Draw observed shares over predicted probabilities; on the diagonal both are equal."""
    dots = [
        join(
            tag("line", class_="gap", x1=_x(b.mean_p), y1=_y(b.mean_p), x2=_x(b.mean_p),
                y2=_y(b.share_yes)),
            tag("circle", class_="dot", cx=_x(b.mean_p), cy=_y(b.share_yes), r=3.5),
        )
        for b in bins
    ]  # fmt: skip
    return _square(label, "probability of YES", "share equivalent", *dots)


def whisker(rate: Rate) -> Markup:
    """Draw a share between 0 and 1 with its interval, small enough for a table's cell."""
    if rate.interval is None or rate.share is None:
        return Markup()
    low, high, x = (
        f"{4 + share * (WHISKER_WIDTH - 8):.1f}" for share in (*rate.interval, rate.share)
    )
    middle = WHISKER_HEIGHT / 2
    return tag(
        "svg",
        tag("line", class_="axis", x1=4, x2=WHISKER_WIDTH - 4, y1=middle, y2=middle),
        tag("line", class_="span", x1=low, x2=high, y1=middle, y2=middle),
        tag("circle", class_="dot", cx=x, cy=middle, r=3),
        class_="whisker",
        viewBox=f"0 0 {WHISKER_WIDTH} {WHISKER_HEIGHT}",
        aria_hidden="true",
    )


def _square(label: str, across: str, up: str, *inside: Markup) -> Markup:
    """Draw axes from 0 to 1 and the diagonal, then *inside* on top of them."""
    width, height = LEFT + SIDE + RIGHT, TOP + SIDE + BOTTOM
    middle = TOP + SIDE / 2
    return tag(
        "svg",
        tag("rect", class_="frame", x=LEFT, y=TOP, width=SIDE, height=SIDE),
        *_ticks(),
        tag("line", class_="diagonal", x1=_x(0), y1=_y(0), x2=_x(1), y2=_y(1)),
        *inside,
        tag("text", across, x=LEFT + SIDE / 2, y=height - 4, text_anchor="middle"),
        tag("text", up, x=0, y=0, text_anchor="middle",
            transform=f"translate(9 {middle}) rotate(-90)"),
        class_="plot",
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_label=label,
    )  # fmt: skip


def _ticks() -> Iterator[Markup]:
    for tick in TICKS:
        yield tag("text", f"{tick:g}", x=_x(tick), y=TOP + SIDE + 14, text_anchor="middle")
        yield tag("text", f"{tick:g}", x=LEFT - 5, y=float(_y(tick)) + 4, text_anchor="end")


def _x(share: float) -> str:
    return f"{LEFT + share * SIDE:.1f}"


def _y(share: float) -> str:
    return f"{TOP + (1 - share) * SIDE:.1f}"


def thinned(curve: Sequence[Point]) -> Sequence[Point]:
    """Reduce a curve to `MOST_POINTS` evenly chosen points, with the first and the last."""
    if len(curve) <= MOST_POINTS:
        return curve
    last = len(curve) - 1
    return [curve[last * number // (MOST_POINTS - 1)] for number in range(MOST_POINTS)]
