"""The scores as one HTML file: it needs nothing else, and what it holds leaves it nowhere."""

from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from importlib import resources
from pathlib import Path
from string import Template
from typing import Final

import orjson

from medreward_eval.findings import ANY, KINDS, Findings
from medreward_eval.markup import Child, Markup, element, joined, visible
from medreward_eval.plots import axis, histogram, whiskers
from medreward_eval.records import Graded
from medreward_eval.scores import Average, AverageName, Estimate, Judging, Scores, TaskScore
from medreward_eval.tables import (
    GROUPS,
    NOTHING,
    between,
    facts,
    grouped,
    has_corrected,
    percent,
    settled_share,
    warnings,
)

AVERAGES: Final[Mapping[AverageName, str]] = {
    "LLM": "text tasks",
    "VLM": "image tasks",
    "Overall": "all seventeen tasks",
    "Own": "tasks of yours",
}
SEVENTEEN: Final[frozenset[AverageName]] = frozenset({"LLM", "VLM", "Overall"})
CALIBRATE: Final = "medreward calibrate labels.jsonl --out calibration.json"


def write_page(
    path: Path,
    scores: Scores,
    graded: Iterable[Graded],
    *,
    with_texts: bool = True,
    most: int = 300,
    answer_of: Callable[[str], str] = str,
) -> None:
    """Write the page; the same scores and grades leave the same file.

    *graded* is read once and may be of any length: the first *most* items of each task and kind
    are kept. *answer_of* takes the graded answer out of a response. Without texts the page has no
    question, reference, answer or response.

    Raises:
        OSError: the file cannot be written; what was there before stays.
    """
    findings = Findings(most=most, with_texts=with_texts, answer_of=answer_of)
    for one in graded:
        findings.add(one)
    text = page(scores, findings, with_texts=with_texts, most=most)
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.write_text(text, "utf-8", newline="\n")
    unfinished.replace(path)


def page(scores: Scores, findings: Findings, *, with_texts: bool, most: int) -> str:
    """Put the page together."""
    style, script, frame = map(_part, ("page.css", "page.js", "page.html"))
    body = joined(
        _head(scores),
        _cards(scores.averages),
        _forest(scores),
        _table(scores),
        _judging(scores),
        _reports(findings),
        _findings(findings, with_texts=with_texts, most=most),
        _foot(),
    )
    return Template(frame).substitute(
        policy=_policy(style, script),
        title=joined(f"{visible(scores.model)}: medical benchmarks"),
        style=style,
        body=body,
        data=_data(findings),
        script=script,
    )


def _part(name: str) -> str:
    return (resources.files("medreward_eval") / name).read_text("utf-8")


def _policy(style: str, script: str) -> str:
    """Allow our own style and script, told by their digests, and no request at all."""
    allowed = f"style-src {_digest(style)}; script-src {_digest(script)}"
    return f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"


def _digest(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _data(findings: Findings) -> str:
    """Write what the script shows; no `<` in it, so nothing in it ends the block."""
    found = {visible(task): counts for task, counts in findings.found.items()}
    told = {"items": findings.items, "found": found}
    return orjson.dumps(told).decode().replace("<", "\\u003c")


def _head(scores: Scores) -> Markup:
    told = joined(*(_fact(name, value) for name, value in _facts(scores).items()))
    return element(
        "header",
        element("p", "Medical benchmarks", class_="kicker"),
        element("h1", element("bdi", visible(scores.model))),
        element("dl", told, class_="facts"),
        *(element("p", _warning(text), class_="warning") for text in warnings(scores)),
    )


def _facts(scores: Scores) -> dict[str, str]:
    """Join what the headers say; where they differ, each value is told."""
    values: dict[str, list[str]] = {"model": [visible(scores.model)]}
    for header in scores.headers:
        for name, value in facts(header, whole=True).items():
            held = values.setdefault(name, [])
            held.extend([] if value in held else [value])
    judged, of = (sum(getattr(s, name) for s in scores.tasks) for name in ("judged", "of"))
    values["judged"] = [f"{judged:,} of {of:,} answers, {len(scores.tasks)} tasks"]
    return {name: " / ".join(held) for name, held in values.items()}


def _fact(name: str, value: str) -> Markup:
    return joined(element("dt", name), element("dd", element("bdi", value)))


def _warning(text: str) -> Markup:
    word, _, rest = text.partition(": ")
    return joined(element("strong", word), ": ", rest.replace("`", ""))


def _cards(averages: Sequence[Average]) -> Markup:
    held = {average.name: average for average in averages}
    cards = (
        _card(name, words, held.get(name))
        for name, words in AVERAGES.items()
        # One that is missing among the seventeen's is told; of the user's own, nothing is missing.
        if name in held or (name in SEVENTEEN and held.keys() & SEVENTEEN)
    )
    return _section("Averages", element("div", *cards, class_="cards"))


def _card(name: str, words: str, average: Average | None) -> Markup:
    title = element("h3", name, " ", element("span", words, class_="quiet"))
    if average is None:
        return element("div", title, element("p", NOTHING, class_="value"),
                       element("p", "none of these tasks", class_="quiet"), class_="card")  # fmt: skip
    short = " short" if average.tasks < average.of else ""
    return element(
        "div",
        title,
        element("p", percent(average.accuracy.value), element("small", " %"), class_="value"),
        element("p", f"95 % interval {between(average.accuracy, ' to ')}", class_="quiet"),
        _card_corrected(average.corrected),
        element("p", f"{average.tasks} of {average.of} tasks", class_="quiet tasks"),
        class_=f"card{short}",
    )


def _card_corrected(corrected: Estimate | None) -> Markup | None:
    if corrected is None:
        return None
    told = f"corrected {percent(corrected.value)}, interval {between(corrected, ' to ')}"
    return element("p", told, class_="quiet")


def _forest(scores: Scores) -> Markup:
    key: list[Child] = [element("span", class_="mark dot"), " accuracy"]
    if has_corrected(scores):
        key += [element("span", class_="mark diamond"), " corrected for the judge's errors"]
    key.append(element("span", "lines: 95 % intervals, in per cent"))
    rows: list[Markup] = []
    for group, tasks in grouped(scores.tasks):
        rows.append(element("h3", GROUPS[group]))
        rows.extend(map(_forest_row, tasks))
    ends = element("div", element("span"), axis(), element("span"), class_="row ends")
    return _section(
        "Tasks",
        element("p", *key, class_="key quiet"),
        element("div", *rows, ends, class_="forest"),
    )


def _forest_row(score: TaskScore) -> Markup:
    value = element("span", percent(score.accuracy and score.accuracy.value), class_="number")
    if score.corrected:
        value = joined(
            value, element("span", percent(score.corrected.value), class_="number second")
        )
    return element(
        "div",
        element("span", _name(score.task), class_="name"),
        element("div", whiskers(score.accuracy, score.corrected), class_="plot"),
        element("span", value, class_="values"),
        class_="row",
    )


def _table(scores: Scores) -> Markup:
    corrected = has_corrected(scores)
    titles = ["task", "judged", "accuracy %", *(["corrected %"] if corrected else []),
              "rules %", "split", "no answer", "characters"]  # fmt: skip
    bodies = [
        element("tbody", _group_row(GROUPS[group], len(titles)),
                *(_row(_task_cells(score, corrected=corrected)) for score in tasks))
        for group, tasks in grouped(scores.tasks)
    ]  # fmt: skip
    foot = [_row(_average_cells(average, corrected=corrected, of=len(titles)))
            for average in scores.averages]  # fmt: skip
    told = (
        "Rules: the share that was settled without the judge, by an option named in plain words, the "
        "reference itself or an empty answer. Split: judged by votes that differ. No answer: cut "
        "off, or empty. Characters: the mean length of an answer. The accuracy of reports is their "
        "mean score over the best one, 5."
    )
    return _section(
        "In numbers",
        _scrolled("Accuracy by task", _titles(titles), *bodies, element("tfoot", *foot)),
        element("p", told, class_="quiet"),
    )


def _task_cells(score: TaskScore, *, corrected: bool) -> list[Child]:
    missing = score.of - score.judged
    of = element("span", f" of {score.of:,}", class_="short") if missing else None
    return [
        _name(score.task),
        joined(f"{score.judged:,}", of),
        _spread(score.accuracy),
        *([_spread(score.corrected)] if corrected else []),
        percent(settled_share(score)),
        f"{score.split:,}",
        f"{score.unanswered:,}",
        f"{score.mean_answer_characters:,.0f}",
    ]


def _average_cells(average: Average, *, corrected: bool, of: int) -> list[Child]:
    cells: list[Child] = [
        average.name,
        f"{average.tasks} of {average.of} tasks",
        _spread(average.accuracy),
        *([_spread(average.corrected)] if corrected else []),
    ]
    return cells + [None] * (of - len(cells))


def _judging(scores: Scores) -> Markup:
    if not scores.judging:
        told = (
            "No calibration was given, so accuracies include the judge's own errors. Label some "
            "answers right or wrong by hand, some 100 or more of each kind of reference, measure "
            "the judge on them, and give the file to the report:"
        )
        return _section("How far to trust the judge", element("p", told),
                        element("pre", element("code", CALIBRATE)))  # fmt: skip
    titles = ["references", "labels", "sensitivity %", "specificity %", "Cohen's κ", "Gwet's AC1"]
    rows = (_row(_judging_cells(one)) for one in scores.judging)
    told = (
        "Measured on answers that people labelled. Sensitivity is the share of right answers that "
        "the judge calls right, specificity the share of wrong ones that it calls wrong. κ and AC1 "
        "tell its agreement with the labels beyond chance, up to 1. Corrected accuracies take these "
        "errors out, and their intervals hold what so many labels leave open."
    )
    return _section(
        "How far to trust the judge",
        element("p", told),
        _scrolled("The judge against labels", _titles(titles), element("tbody", *rows)),
    )


def _judging_cells(one: Judging) -> list[Child]:
    return [
        element("bdi", visible(one.family)),
        f"{one.labels:,}",
        percent(one.sensitivity),
        percent(one.specificity),
        _number(one.cohen_kappa),
        _number(one.gwet_ac1),
    ]


def _reports(findings: Findings) -> Markup | None:
    if not findings.reports:
        return None
    told = "How many reports got each score, from 0 to 5; means of votes at the nearest."
    figures = (_report(task, counts) for task, counts in findings.reports.items())
    return _section(
        "Scores of reports",
        element("p", told, class_="quiet"),
        element("div", *figures, class_="figures"),
    )


def _report(task: str, counts: Mapping[int, int]) -> Markup:
    listed = ", ".join(f"{counts.get(score, 0):,} of score {score}" for score in range(6))
    name = element("bdi", visible(task))
    return element(
        "figure", element("figcaption", name), histogram(counts, f"{visible(task)}: {listed}")
    )


def _findings(findings: Findings, *, with_texts: bool, most: int) -> Markup:
    told = f"The first {most:,} of each task and kind are here."
    if not with_texts:
        told += " Questions, references and answers were left out of this page on purpose."
    if findings.is_tight and with_texts:
        told += " Their texts are many, so later ones come without their whole response."
    if findings.is_full:
        told += " Their texts fill the page, so the last ones are only counted."
    if not findings.items:
        told = "There is nothing to look at: none wrong, none split, none low, none unjudged."
        return _section("Items to look at", element("p", told, class_="quiet"))
    return _section(
        "Items to look at",
        element("p", told, class_="quiet"),
        element("noscript", element("p", "The list needs JavaScript; it sends nothing.")),
        _filters(findings),
        element("p", id="status", class_="quiet", role="status"),
        element("ol", id="items", role="list"),
        element("button", "Show more", id="more", type="button", hidden=True),
    )


def _filters(findings: Findings) -> Markup:
    totals = sum(findings.found.values(), Counter[str]())
    tasks = {visible(task): f"{visible(task)} ({counts[ANY]:,})"
             for task, counts in findings.found.items()}  # fmt: skip
    kinds = {
        name: f"{kind.words} ({totals[name]:,})" for name, kind in KINDS.items() if totals[name]
    }
    search = element("input", id="search", type="search", autocomplete="off", spellcheck="false")
    return element(
        "form",
        _labelled("Task", "task", _select("task", f"all ({totals[ANY]:,})", tasks)),
        _labelled("Kind", "kind", _select("kind", f"all ({totals[ANY]:,})", kinds)),
        _labelled("Search", "search", search),
        id="filters",
        role="search",
    )


def _labelled(label: str, name: str, control: Markup) -> Markup:
    return element("div", element("label", label, for_=name), control)


def _select(name: str, everything: str, choices: Mapping[str, str]) -> Markup:
    options = (element("option", words, value=value) for value, words in choices.items())
    return element("select", element("option", everything, value=""), *options, id=name)


def _foot() -> Markup:
    told = (
        "Intervals are at 95 %. What was not judged is in no accuracy. Scores are for research, "
        "not for clinical use."
    )
    return element("footer", element("p", told))


def _section(title: str, *inside: Child) -> Markup:
    return element("section", element("h2", title), *inside)


def _scrolled(label: str, *inside: Child) -> Markup:
    """Put a table where it can be scrolled sideways, by keys too."""
    table = element("table", *inside)
    return element("div", table, class_="scroll", role="region", aria_label=label, tabindex=0)


def _titles(titles: Iterable[str]) -> Markup:
    cells = (element("th", title, scope="col") for title in titles)
    return element("thead", element("tr", *cells))


def _group_row(words: str, columns: int) -> Markup:
    return element("tr", element("th", words, scope="rowgroup", colspan=columns), class_="group")


def _row(cells: Sequence[Child]) -> Markup:
    return element("tr", element("th", cells[0], scope="row"), *_values(cells[1:]))


def _values(cells: Iterable[Child]) -> Iterator[Markup]:
    return (element("td", cell) for cell in cells)


def _name(task: str) -> Markup:
    """Write a task's name so that it breaks behind an underscore."""
    first, *others = visible(task).split("_")
    return element("bdi", first, *(joined("_", element("wbr"), other) for other in others))


def _spread(estimate: Estimate | None) -> Markup:
    if estimate is None:
        return joined(NOTHING)
    return joined(
        element("span", percent(estimate.value), class_="number"),
        element("span", between(estimate, " to "), class_="range"),
    )


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}"
