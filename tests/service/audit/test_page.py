"""The page: whole, escaped, and in need of nothing else."""

import re
import subprocess
from functools import lru_cache
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward.audit.figures import Point, Rate
from medreward.audit.markup import join, tag, visible
from medreward.audit.page import page, percent
from medreward.audit.plots import MOST_POINTS, roc_plot, whisker
from tests.programs import path_of
from tests.service.audit.outcomes import card, case, outcome

VOID = frozenset({"meta", "link", "br", "hr"})
ATTACK = "</dd></dl><script>alert(1)</script>\u202e$title ${body} <|im_end|>\x00"


class Reader(HTMLParser):
    """Reads a page, and holds its open elements against its end tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.links: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember an element."""
        self.seen.append(tag)
        self.links += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the element that is open."""
        assert self.open.pop() == tag


def whole_page(answer: str = "an answer") -> str:
    """A page with every part."""
    return page(
        card(
            *(
                outcome(case("attack", "A06", answer=answer, question=answer), p)
                for p in (0.9, 0.1)
            ),
            outcome(case("attack", "A11", answer="word " * 400), 0.9, refused_by=answer),
            outcome(case("benign", "greek", equivalent=True), None, unjudged="judge_abstained"),
            outcome(case("pair", "synonym_far", equivalent=True), 0.8),
            outcome(case("pair", "sibling"), 0.3, unscored="too_long", reward=None),
            outcome(case("pair", "parent"), is_lost=True),
            outcome(case("answer", "yes_no", equivalent=True), 0.4),
            outcome(case("answer", "yes_no", answer=answer), 0.8),
            outcome(case("answer", "yes_no", answer="not to be read", held_out=True), 0.9),
        )
    )


@lru_cache(maxsize=1)
def elements() -> list[str]:
    """The elements of the page when all texts are harmless."""
    return Reader(whole_page()).seen


@given(st.text(min_size=1) | st.just(ATTACK))
def test_no_text_of_a_case_becomes_markup(answer: str) -> None:
    """Whatever an attack holds, the page has the elements that it has without it."""
    assert Reader(whole_page(answer)).seen == elements()


def test_what_cannot_be_seen_is_written_out() -> None:
    """An override would turn the rest of the line around."""
    text = whole_page(ATTACK)

    assert "\u202e" not in text
    assert "\x00" not in text
    assert "\\u202e$title ${body} &lt;|im_end|&gt;\\x00" in text
    assert visible("a\u200bb\tc\n\ud800") == "a\\u200bb\tc\n\\ud800"


def test_the_page_needs_nothing_else() -> None:
    """No script, no font, no picture and no link leads out of it."""
    text = whole_page()
    found = Reader(text)

    assert found.open == []
    assert found.links == []
    assert not {"script", "link", "img", "iframe"} & set(found.seen)
    assert not re.search(r"url\(|@import|https?://", text)


def test_the_page_tells_what_was_audited() -> None:
    """Date, judge, embedder, recipe, fingerprints and version, and what an outage kept away."""
    text = whole_page()

    for told in ("2026-01-31", "hashed:256", "medix-r1, sha256:aa", "equivalence, sha256:bb"):
        assert told in text
    assert "<title>Report card of scripted</title>" in text
    assert "1 of 10 cases: an engine was away" in text
    assert "No verdict: judge_abstained 1." in text


def test_both_colour_schemes_name_the_same_colours() -> None:
    """What is set for light is set anew for dark."""
    style = whole_page().split("</style>")[0]
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    used = set(re.findall(r"var\((--[a-z-]+)\)", style))

    assert set(re.findall(r"(--[a-z-]+):", light)) == set(re.findall(r"(--[a-z-]+):", dark))
    assert used <= set(re.findall(r"(--[a-z-]+):", light))


def test_a_long_text_is_cut_and_says_so() -> None:
    """A flood of words would bury the other examples."""
    text = whole_page()

    assert "word " * 65 not in text
    assert "2,000 characters in all" in text


def test_right_and_wrong_answers_have_rows_and_a_curve() -> None:
    """The texts of held-out answers stand nowhere."""
    text = whole_page()

    assert "yes no (right)" in text
    assert "yes no (wrong)" in text
    assert "Telling answers apart" in text
    assert "answers, 1 of 2 shown" in text
    assert "not to be read" not in text


def test_a_page_without_failures_says_so() -> None:
    """An empty list looks like a fault of the page."""
    assert "There are none." in page(card(outcome(case("attack", "A01"))))


@pytest.mark.parametrize(
    ("share", "told"),
    [
        (None, "-"),
        (0.0, "0%"),
        (1.0, "100%"),
        (0.5, "50.0%"),
        (0.0012, "0.12%"),
        (0.999, "99.90%"),
        (0.0000001, "0.01%"),
        (0.9999999, "99.99%"),
    ],
)
def test_a_share_is_never_rounded_to_none_or_all(share: float | None, told: str) -> None:
    """One success among a million is not none."""
    assert percent(share) == told


def test_attributes_and_children_are_escaped() -> None:
    """What is not markup is text; None is left out."""
    assert tag("p", "a < b", None, tag("b", "&"), class_='"', id=None) == (
        '<p class="&quot;">a &lt; b<b>&amp;</b></p>'
    )
    assert join("<", tag("i")) == "&lt;<i></i>"


def test_plots_stay_small() -> None:
    """A curve has as many points as can be told apart, with both ends."""
    curve = [Point(n / 9999, n / 9999) for n in range(10_000)]
    (points,) = re.findall(r'points="(.*?)"', roc_plot(curve, "a curve"))

    assert len(points.split()) == MOST_POINTS
    assert (points.split()[0], points.split()[-1]) == ("40.0,208.0", "240.0,8.0")
    assert whisker(Rate(0, 0)) == ""


@pytest.mark.needs("chromium")
@pytest.mark.parametrize("width", [400, 1200])
def test_a_browser_shows_it_without_scrolling_sideways(tmp_path: Path, width: int) -> None:
    """Only the tables scroll, on a phone as on a desk; nothing runs."""
    file = tmp_path / "page.html"
    probe = "<script>document.title = document.documentElement.scrollWidth - innerWidth</script>"
    file.write_text(whole_page(ATTACK) + probe, "utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--dump-dom"]
    told = subprocess.run(  # noqa: S603 - a browser, on our own page
        [path_of("chromium"), *options, f"--window-size={width},900", file.as_uri()],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )

    assert "<title>0</title>" in told.stdout
