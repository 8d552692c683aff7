"""The page: whole, bounded, at rest with any text, and of use in a browser."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from medreward_eval.records import Grade, Graded, Vote
from medreward_eval.report.markup import element, joined, visible
from medreward_eval.report.page import page, write_page
from medreward_eval.report.plots import histogram
from medreward_eval.statistics.findings import MOST_CHARACTERS, Findings, outcome
from medreward_eval.statistics.scores import Scores
from tests.evaluation.sample_scores import (
    HEADER,
    RIGHT,
    SPLIT,
    UNJUDGED,
    WRONG,
    item,
    sample_grades,
    sample_scores,
    uncorrected,
)
from tests.programs import path_of

HOSTILE = "</script></dd><img src=x onerror=alert(1)><!--\u202e\u200b$title ${body}\x00\ud800"


class Reader(HTMLParser):
    """Reads a page, and holds its open elements against its end tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember an element."""
        self.seen.append(tag)
        if tag not in {"meta", "input", "wbr"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the element that is open."""
        assert self.open.pop() == tag


def found(graded: Iterable[Graded], *, most: int = 300, with_texts: bool = True) -> Findings:
    """The findings among these grades."""
    held = Findings(most=most, with_texts=with_texts)
    for one in graded:
        held.add(one)
    return held


def text_of(*grades: Graded, scores: Scores | None = None, with_texts: bool = True) -> str:
    """A page of these grades."""
    return page(scores or sample_scores(), found(grades, with_texts=with_texts))


def data_of(text: str) -> Any:
    """The JSON that the page's script reads."""
    block = text.partition('<script type="application/json" id="findings">')[2]
    return orjson.loads(block.partition("</script>")[0])


@given(st.text(min_size=1) | st.just(HOSTILE))
def test_no_text_becomes_markup(text: str) -> None:
    """Whatever a question, a response or a name holds, the elements are the same."""
    plain = text_of(item("own", 1, WRONG), scores=replace(sample_scores(), model="m"))
    odd = text_of(
        item("own", 1, WRONG, question=text, reference=text, response=text, id=text),
        scores=replace(sample_scores(), model=text),
    )

    assert Reader(odd).seen == Reader(plain).seen
    assert Reader(odd).open == []


def test_what_cannot_be_seen_is_written_out() -> None:
    """An override or a zero width is told by its number, and lines stay lines."""
    assert visible("a\u202eb\u200bc\x00\ud800") == "a⟨U+202E⟩b⟨U+200B⟩c⟨U+0000⟩⟨U+D800⟩"
    assert visible("5\u00a0mg\r\n\tκ") == "5\u00a0mg\n\tκ"
    (kept,) = data_of(text_of(item("medqa", 1, WRONG, question=HOSTILE)))["items"]
    assert "\u202e" not in kept["texts"][0][1]
    assert kept["texts"][0][1].startswith("</script></dd><img")


def test_the_page_may_ask_nothing_of_a_network() -> None:
    """The policy allows only the page's own style and script, and the page has no URL."""
    text = text_of(*sample_grades())
    policy = re.findall(r'Content-Security-Policy" content="(.*?)"', text)[0]

    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert not re.search(r"url\(|@import|https?://|innerHTML", text)


def test_the_page_tells_what_the_numbers_depend_on() -> None:
    """Model, judge, service, votes, task file and templates, in full."""
    text = text_of()

    for told in ("medix-r1-8b", "Qwen/Qwen3-14B", "0.1.0", HEADER["tasks"], "21,064 of 21,101"):
        assert told in text
    assert HEADER["templates"]["report"] in text


def test_the_page_counts_what_is_not_graded_yet() -> None:
    """A part never passes for the whole."""
    text = text_of(scores=replace(sample_scores(), headers=[{**HEADER, "predictions": 21_109}]))

    assert "8 more not graded yet" in text
    assert "21,101 of 21,109 predictions are graded so far" in text


def test_the_page_counts_what_is_not_generated_yet() -> None:
    """Questions without a prediction are of the benchmark, too."""
    counts = {"predictions": 21_101, "questions": 21_200}
    text = text_of(scores=replace(sample_scores(), headers=[{**HEADER, **counts}]))

    assert "99 more not generated yet" in text
    assert "21,101 of 21,200 questions have a prediction so far" in text


def test_mixed_headers_are_told_side_by_side_under_a_warning() -> None:
    """A reader sees which of the two judges it was: both."""
    mixed = replace(
        sample_scores(), headers=[HEADER, {**HEADER, "judges": {"equivalence": "another"}}]
    )
    text = text_of(scores=mixed)

    assert "Qwen/Qwen3-14B / another" in text
    assert "made in 2 ways (equivalence judge, report judge)" in text


def test_without_a_calibration_the_page_says_so_and_how_to_get_one() -> None:
    """Accuracies then include the judge's own errors."""
    text = text_of(scores=uncorrected(sample_scores()))

    assert "accuracies include the judge&#x27;s own errors" in text
    assert "medreward calibrate labels.jsonl" in text
    assert 'class="diamond"' not in text
    assert "medreward calibrate" not in text_of()


def test_an_average_that_there_is_none_of_is_no_zero() -> None:
    """Its card says that none of its tasks is there."""
    scores = replace(sample_scores(), averages=sample_scores().averages[:1])

    assert text_of(scores=scores).count("none of these tasks") == 2


@pytest.mark.parametrize(
    ("graded", "kinds", "worth"),
    [
        (item("medqa", 1, WRONG), ["wrong"], "wrong"),
        (item("medqa", 1, SPLIT), ["split", "unwitnessed"], "right"),
        (item("medqa", 1, replace(SPLIT, score=0.0)), ["wrong", "split"], "wrong"),
        (item("medqa", 1, UNJUDGED), ["unjudged"], "unjudged"),
        (item("a_report", 1, Grade(2.0, "judge")), ["low"], "2 of 5"),
        (item("a_report", 1, Grade(0.0, "judge")), ["low"], "0 of 5"),
        (item("a_report", 1, Grade(None)), ["unjudged"], "unjudged"),
    ],
)
def test_an_item_is_kept_for_its_kinds(graded: Graded, kinds: list[str], worth: str) -> None:
    """Wrong, split, low or unjudged; a report of 0 is low and not unjudged."""
    held = found([graded])

    assert held.items[0]["kinds"] == kinds
    assert outcome(graded) == worth


def test_what_needs_no_look_is_not_kept() -> None:
    """Right answers and good reports are in the numbers alone."""
    held = found([item("medqa", 1, RIGHT), item("a_report", 2, Grade(3.67, "judge"))])

    assert (held.items, held.found) == ([], {})
    assert held.reports == {"a_report": {4: 1}}


def test_the_first_of_each_task_and_kind_are_kept_and_all_are_counted() -> None:
    """A million items take no more room than a thousand."""
    stream = (item(task, n, grade) for n in range(500) for task in ("a", "b")
              for grade in (WRONG, SPLIT))  # fmt: skip
    held = found(stream, most=3)

    assert len(held.items) == 2 * 2 * 3
    assert held.found["a"] == {"any": 1000, "wrong": 500, "split": 500, "unwitnessed": 500}


def test_an_item_of_two_kinds_counts_for_the_one_that_has_room() -> None:
    """No kind gets more than its share."""
    held = found([item("a", 1, WRONG), item("a", 2, replace(SPLIT, score=0.0))], most=1)

    assert [kept["kinds"] for kept in held.items] == [["wrong"], ["split"]]


def test_long_texts_are_cut_and_fill_the_page_only_so_far() -> None:
    """Some pages of one response say enough, and a browser must still open the file."""
    long = "word " * 2_000
    held = found(
        (item("a", n, WRONG, response=long, question=long) for n in range(3_000)), most=10_000
    )

    answer = dict(held.items[0]["texts"])["answer"]
    assert answer.endswith(" … (9,999 characters in all)")
    assert held.is_full
    assert len(held.items) < held.found["a"]["wrong"] == 3_000
    assert sum(len(kept["response"]) for kept in held.items) < MOST_CHARACTERS
    assert (held.items[0]["response"] > "", held.items[-1]["response"]) == (True, "")


def test_without_texts_none_is_in_the_file() -> None:
    """Ids, verdicts and reasons stay, and a note names the texts that were left out."""
    text = text_of(*sample_grades(), with_texts=False)

    for gone in ("54-year-old", "Aspirin", "Heparin", "platelets"):
        assert gone not in text
    assert "were left out of this page on purpose" in text
    assert "medqa_60" in text


def test_a_response_that_is_its_answer_is_told_once() -> None:
    """And of a response that there is none of, no answer is shown."""
    bare, whole, none = data_of(
        text_of(
            item("a", 1, WRONG, response=""),
            item("a", 2, WRONG),
            item("a", 3, UNJUDGED, response=None),
        )
    )["items"]

    assert (bare["response"], dict(bare["texts"])["answer"]) == ("", "")
    assert whole["response"].startswith("<think>")
    assert "answer" not in dict(none["texts"])


def test_votes_and_reasons_are_told() -> None:
    """Each view with its verdict; a view without one has none."""
    votes = (Vote("as_written", "YES", 0.81), Vote("without_question", None, None))
    split, unjudged = data_of(
        text_of(item("a", 1, replace(WRONG, votes=votes)), item("a", 2, UNJUDGED))
    )["items"]

    assert dict(map(tuple, split["facts"]))["votes"] == (
        "as written YES at P(YES) 0.810; without question no verdict"
    )
    assert unjudged["facts"] == [["why unjudged", "judge_timeout: no verdict within 60 s"]]


def test_nothing_to_look_at_is_said() -> None:
    """An empty list looks like a fault of the page."""
    text = text_of(item("medqa", 1, RIGHT))

    assert "There is nothing to look at" in text
    assert 'id="filters"' not in text


def test_the_same_grades_leave_the_same_file(tmp_path: Path) -> None:
    """The page depends on no clock and no random number, and no temporary file remains."""
    first, second = tmp_path / "a.html", tmp_path / "b.html"
    for file in (first, second):
        write_page(file, sample_scores(), found(sample_grades()))

    assert first.read_bytes() == second.read_bytes()
    assert sorted(tmp_path.iterdir()) == [first, second]


def test_markup_escapes_what_is_text() -> None:
    """Attributes too; True is a bare attribute, None none, and a void element has no end."""
    assert element("p", "a<", None, element("b", "&"), class_='"', id=None, hidden=True) == (
        '<p class="&quot;" hidden>a&lt;<b>&amp;</b></p>'
    )
    assert joined("<", element("input", type="search")) == '&lt;<input type="search">'


def test_one_among_many_is_still_seen_in_a_histogram() -> None:
    """A bar of less than a pixel would look like none."""
    drawn = histogram({5: 1_000_000, 0: 1}, "scores")
    heights = [float(height) for height in re.findall(r'class="bar".*?height="(.*?)"', drawn)]

    assert heights == [1.5, 0.0, 0.0, 0.0, 0.0, 110.0]


def test_both_colour_schemes_name_the_same_colours() -> None:
    """Each colour of the light scheme is redefined for the dark one."""
    style = text_of().split("</style>")[0]
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)

    assert set(re.findall(r"(--[a-z-]+):", light)) == set(re.findall(r"(--[a-z-]+):", dark))
    assert set(re.findall(r"var\((--[a-z-]+)\)", style)) <= set(re.findall(r"(--[a-z-]+):", light))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium."""
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=path_of("chromium"), args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with everything in it, an attack too."""
    path = tmp_path_factory.mktemp("page") / "page.html"
    hostile = item("usmle_sa", 1, WRONG, question=HOSTILE, response=HOSTILE, id=HOSTILE)
    write_page(path, sample_scores(), found([*sample_grades(), hostile]))
    return path


@pytest.fixture
def shown(browser: Browser, file: Path) -> Iterator[Page]:
    """The page, open; it must have asked for nothing and complained of nothing."""
    opened = browser.new_page(viewport={"width": 1200, "height": 900})
    asked: list[str] = []
    said: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("dialog", lambda dialog: said.append(dialog.message))
    opened.goto(file.as_uri())
    yield opened
    opened.close()
    assert asked == [file.as_uri()]
    assert said == []


@pytest.mark.needs("chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_a_browser_shows_it_without_scrolling_sideways(
    shown: Page, tmp_path: Path, width: int, scheme: Any
) -> None:
    """On a phone as on a desk, by day and by night; only tables scroll."""
    shown.emulate_media(color_scheme=scheme)
    shown.set_viewport_size({"width": width, "height": 900})
    picture = tmp_path / "page.png"
    shown.screenshot(path=picture)

    with Image.open(picture) as seen:
        colours = seen.convert("L").getcolors() or []
    assert len(colours) > 50
    brightest = max(colours)[1]
    assert (brightest == pytest.approx(247, abs=8)) == (scheme == "light")
    assert shown.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.needs("chromium")
def test_filters_narrow_the_list(shown: Page) -> None:
    """By task and by kind, with the totals told."""
    items = shown.locator("#items > li")
    shown.get_by_role("combobox", name="Task").select_option("medmcqa")
    assert items.count() == 3
    assert "judge_timeout" in items.first.inner_text()

    shown.get_by_role("combobox", name="Kind").select_option("wrong")
    assert items.count() == 0
    assert shown.locator("#status").inner_text() == "Nothing fits; 0 were found in all."

    shown.get_by_role("combobox", name="Task").select_option("")
    assert shown.locator("#status").inner_text() == "20 of 46 shown; 46 were found in all."


@pytest.mark.needs("chromium")
def test_search_finds_words_in_any_text(shown: Page) -> None:
    """Large or small letters, all words, in the response that is folded away too."""
    shown.get_by_role("searchbox", name="Search").fill("PLATELETS  case 77.")
    items = shown.locator("#items > li")
    expect(items).to_have_count(1)

    assert "medqa_77" in items.inner_text()
    assert not items.locator("details p").is_visible()
    items.locator("summary").press("Enter")
    assert "platelets matter" in items.locator("details p").inner_text()


@pytest.mark.needs("chromium")
def test_show_more_goes_on_to_the_end_by_keys_alone(shown: Page) -> None:
    """The first new item has the focus, so that reading goes on there."""
    more = shown.get_by_role("button", name="Show more")
    more.press("Enter")
    focused = shown.evaluate("[...document.querySelectorAll('#items > li')]"
                             ".indexOf(document.activeElement)")  # fmt: skip
    assert focused == 20
    more.press("Enter")

    assert shown.locator("#items > li").count() == 58
    assert not more.is_visible()


@pytest.mark.needs("chromium")
def test_a_hostile_answer_is_only_read(shown: Page) -> None:
    """Its tags stand there as text; nothing of it runs or is drawn."""
    shown.get_by_role("combobox", name="Task").select_option("usmle_sa")

    assert "<img src=x onerror=alert(1)><!--⟨U+202E⟩" in shown.locator("#items").inner_text()
    assert shown.locator("img").count() == 0


@pytest.mark.needs("chromium")
def test_paper_gets_light_colours_and_no_controls(shown: Page) -> None:
    """Also of a browser that is dark."""
    shown.emulate_media(media="print", color_scheme="dark")

    assert not shown.get_by_role("combobox", name="Task").is_visible()
    assert shown.evaluate("getComputedStyle(document.body).color") == "rgb(28, 36, 40)"


@pytest.mark.needs("chromium")
def test_corrected_accuracies_are_a_second_mark(shown: Page) -> None:
    """Each task has both, at their places along the axis."""
    rows = shown.locator(".forest .row:not(.ends)")
    places = rows.first.evaluate(
        "row => { const box = row.querySelector('.plot').getBoundingClientRect();"
        " return ['.dot', '.diamond'].map(mark => {"
        " const at = row.querySelector(mark).getBoundingClientRect();"
        " return (at.left + at.width / 2 - box.left) / box.width; }); }"
    )

    assert rows.count() == 17
    assert places == pytest.approx([0.71, 0.67], abs=0.01)
