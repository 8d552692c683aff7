"""The report card as one HTML file without external resources."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from string import Template

from medreward.audit.cases import Suite
from medreward.audit.figures import Interval, Rate
from medreward.audit.markup import Inside, Markup, join, tag, visible
from medreward.audit.outcomes import Outcome
from medreward.audit.plots import reliability_plot, roc_plot, whisker
from medreward.audit.report import Audited, Card, Contrast, Failures, Stratum
from medreward.audit.targets import Bar, bars

NOTHING = "-"
LONGEST_SHOWN = 320
"""Most characters shown of a text in an example."""
ATTACKS: Mapping[str, str] = {
    "A01": "nothing, or punctuation",
    "A02": "opening of an argument",
    "A03": "first sentence of an argument",
    "A04": "forged field of the prompt",
    "A05": "instruction to the judge",
    "A06": "role and special tokens",
    "A07": "forged delimiter",
    "A08": "invisible and look-alike letters",
    "A09": "several answers at once",
    "A10": "copy of question or options",
    "A11": "flood of related words",
    "A12": "one clinical word changed",
    "A13": "too general, or a refusal",
    "A14": "the verdict's own words",
    "A15": "praise of itself",
    "A16": "optimised suffix",
}
ANSWERS: Mapping[str, str] = {
    "denial": "finding denied, or normal",
    "long": "explained, or an impression",
    "option": "choice among options",
    "quantity": "number, dose, date or stage",
    "question": "short term behind a question",
    "sentence": "one sentence",
    "yes_no": "yes, no or maybe",
}
STATUS = {"met": "met", "missed": "missed", "unknown": "not measured"}
SUITE_TITLES: Mapping[Suite, str] = {
    "attack": "Attacks",
    "benign": "Benign twins",
    "pair": "Pairs",
    "answer": "Answers",
}
SUITE_TEXTS: Mapping[Suite, str] = {
    "attack": "Answers that are wrong and try to look right. Paid is what the recipe took for "
    "right; held out are templates that no list of ours was written from.",
    "benign": "Answers that are right and look odd. Refused is what a rule called wrong before "
    "any model was asked.",
    "pair": "Terms and their synonyms, and terms that differ in what matters. The judge alone "
    "gives the verdict; the recipe pays.",
    "answer": "Answers to questions as people and policies write them: right ones, equivalent to "
    "the reference, and wrong ones like them that differ in one fact. Held out are questions that "
    "no rule of ours was tuned on.",
}


def page(card: Card) -> str:
    """Render a report card as an HTML page."""
    judge = card.audited.judge
    body = join(
        _head(card),
        tag("div", *map(_card, bars(card)), class_="cards"),
        *(_suite(card, suite) for suite in SUITE_TITLES if card.of_suite(suite)),
        *(_telling_apart(suite, card.contrasts) for suite in SUITE_TITLES),
        _failures(card.failures),
        _foot(card.audited),
    )
    title = join(f"Report card of {visible(judge)}")
    text = (resources.files("medreward.audit") / "page.html").read_text("utf-8")
    return Template(text).substitute(title=title, body=body)


def percent(share: float | None) -> str:
    """Format a share in per cent, with two decimals near 0 and 1."""
    if share is None:
        return NOTHING
    if share in {0.0, 1.0}:
        return f"{share:.0%}"
    # A share that is not exactly 0 or 1 must not be rounded to it: 99.996 % becomes 99.99 %, since
    # "100 %" would claim that there was no failure.
    digits = 2 if min(share, 1 - share) < 0.01 else 1  # noqa: PLR2004 - one per cent
    return f"{min(max(share, 0.0001), 0.9999):.{digits}%}"


def _head(card: Card) -> Markup:
    audited = card.audited
    facts = {
        "judge": audited.judge,
        "embedder": audited.embedder,
        "recipe": f"{audited.recipe}, {audited.recipe_fingerprint}",
        "template": f"equivalence, {audited.template_fingerprint}",
        "rules": audited.rules or NOTHING,
        "service": f"medreward {audited.service}",
        "date": audited.date,
        "cases": audited.cases,
    }
    if card.lost.hits:
        facts["lost"] = f"{card.lost.hits} of {card.lost.of} cases: an engine was away"
    rows = {name: visible(fact) for name, fact in facts.items()}
    intro = "How a judge fares against answers of which the right verdict is known."
    return tag("header", tag("h1", "Report card"), _quiet(intro, "p"), _facts(rows, class_="facts"))


def limit_of(bar: Bar) -> str:
    """Format the limit of a bar, in per cent if it is a share."""
    return f"{100 * bar.limit:g}%" if bar.is_share else f"{bar.limit:g}"


def _card(bar: Bar) -> Markup:
    bound = "at most" if bar.is_ceiling else "at least"
    value = percent(bar.value) if bar.is_share else _number(bar.value)
    basis = f"of {bar.of:,}" if bar.of else "no such cases"
    if bar.interval is not None:
        basis += f", 95% interval {_within(bar.interval)}"
    status = tag("span", STATUS[bar.status], class_="status")
    return tag(
        "div",
        tag("div", tag("span", bar.name), status, class_="name"),
        tag("div", value, class_="value"),
        tag("div", f"{bar.measures}; {bound} {limit_of(bar)}", class_="bound"),
        tag("div", basis, class_="basis"),
        class_=f"card {bar.status}",
    )


def _suite(card: Card, suite: Suite) -> Markup:
    is_split = suite in {"attack", "answer"}
    kind = "class" if suite == "attack" else "stratum"
    titles = [kind, "cases", "judged YES", "with rules", "paid"]
    titles += ["known", "held out"] if is_split else []
    titles += ["refused", "no verdict", "no reward", "mean reward"]
    strata = card.of_suite(suite)
    table = _table(titles, (_row(stratum, is_split=is_split) for stratum in strata))
    return _section(SUITE_TITLES[suite], SUITE_TEXTS[suite], table, _missing(strata))


def _row(stratum: Stratum, *, is_split: bool) -> list[Inside]:
    split = [_brief(stratum.paid_known), _brief(stratum.paid_held_out)] if is_split else []
    return [
        _name(stratum),
        f"{stratum.cases:,}",
        _drawn(stratum.yes),
        _brief(stratum.graded),
        _share(stratum.paid),
        *split,
        _brief(stratum.refused),
        f"{sum(stratum.unjudged.values()):,}",
        f"{sum(stratum.unscored.values()):,}",
        _number(stratum.mean_reward),
    ]


def _name(stratum: Stratum) -> Markup:
    title = _words(stratum.title)
    known = ANSWERS if stratum.suite == "answer" else ATTACKS
    told = "a matter of policy" if stratum.is_partial else known.get(stratum.name)
    return join(title, " ", _quiet(told) if told else None)


def _telling_apart(suite: Suite, contrasts: Iterable[Contrast]) -> Markup | None:
    found = [contrast for contrast in contrasts if contrast.suite == suite]
    if not found:
        return None
    titles = ["stratum", "different", "AUC", "false YES", "false NO", "ECE", "Brier"]
    rows: list[list[Inside]] = [
        [
            _words(contrast.name),
            f"{contrast.different:,}",
            _number(contrast.auc),
            _drawn(contrast.false_positives),
            _brief(contrast.false_negatives),
            _number(contrast.ece),
            _number(contrast.brier),
        ]
        for contrast in found
    ]
    against = (
        "The wrong answers of each stratum against its right ones. "
        if suite == "answer"
        else f"Each kind of different pairs against all {found[0].equivalent:,} equivalent ones. "
    )
    intro = (
        f"{against}The left plot tells how well the probabilities sort, the right one whether they mean "
        "what they say: a dot is a fifteenth of the cases, and belongs on the diagonal."
    )
    title = f"Telling {SUITE_TITLES[suite].lower()} apart"
    plots = tag("div", *map(_plots, found), class_="plots")
    return _section(title, intro, _table(titles, rows), plots)


def _plots(contrast: Contrast) -> Markup:
    name = _words(contrast.name)
    auc, ece = f"AUC {_number(contrast.auc)}", f"ECE {_number(contrast.ece)}"
    curve = roc_plot(contrast.curve, f"ROC curve of {name}, {auc}")
    reliability = reliability_plot(contrast.bins, f"Reliability of {name}, {ece}")
    title = tag("h3", name, " ", _quiet(f"{auc}, {ece}"))
    return tag("div", title, tag("div", curve, reliability, class_="both"), class_="pair")


def _failures(failures: Sequence[Failures]) -> Markup:
    intro = (
        "The worst of each kind; every text comes from the suites, none from a patient. Answers "
        "that are held out are counted and not shown."
    )
    title = "Examples of failures"
    return _section(title, intro if failures else "There are none.", *map(_examples, failures))


def _examples(failures: Failures) -> Markup:
    shown, total = len(failures.worst), failures.total
    told = f"{SUITE_TITLES[failures.suite].lower()}, {shown:,} of {total:,} shown"
    summary = tag("summary", _words(failures.title), " ", _quiet(told))
    return tag("details", summary, *map(_example, failures.worst))


def _example(outcome: Outcome) -> Markup:
    case = outcome.case
    question = {} if case.question is None else {"question": _text(case.question)}
    rows = {
        "answer": _text(case.answer),
        "reference": _text(case.reference),
        **question,
        "judge": _verdict(outcome),
        "recipe": _payment(outcome),
    }
    return tag("div", _facts(rows), class_="failure")


def _verdict(outcome: Outcome) -> Markup:
    if outcome.verdict is None:
        return join(f"no verdict: {outcome.unjudged}")
    told = f"{outcome.verdict}, P(YES) {_number(outcome.p_yes)}"
    return tag("span", told, class_="wrong" if outcome.is_misjudged else None)


def _payment(outcome: Outcome) -> Markup:
    if outcome.reward is None:
        told = f"no reward: {outcome.unscored}"
    else:
        taken = "right" if outcome.is_paid else "wrong"
        told = f"took it for {taken}, reward {outcome.reward:.4f}"
    if outcome.refused_by is not None:
        told += f", by the rule {outcome.refused_by}"
    return tag("span", visible(told), class_="wrong" if outcome.is_mispaid else None)


def _text(text: str) -> Markup:
    if not text:
        return _quiet("empty")
    cut = visible(text[:LONGEST_SHOWN])
    more = f" … {len(text):,} characters in all" if len(text) > LONGEST_SHOWN else None
    # `bdi` isolates the text, so that one from right to left does not reverse its surroundings.
    return join(tag("bdi", cut), _quiet(more) if more else None)


def _foot(audited: Audited) -> Markup:
    told = (
        "Intervals are Wilson's at 95%. A case that an outage kept from its reward is in no share "
        "of what was paid; one that the service declined to score counts as not paid. "
        f"Measured on {audited.date}. Rewards and grades are for research and training, not for "
        "clinical use."
    )
    return tag("footer", tag("p", told))


def _section(title: str, intro: str, *inside: Inside) -> Markup:
    return tag("section", tag("h2", title), _quiet(intro, "p"), *inside)


def _quiet(text: str, name: str = "span") -> Markup:
    return tag(name, text, class_="quiet")


def _facts(rows: Mapping[str, Inside], class_: str | None = None) -> Markup:
    cells = (join(tag("dt", name), tag("dd", value)) for name, value in rows.items())
    return tag("dl", *cells, class_=class_)


def _table(titles: Iterable[str], rows: Iterable[Sequence[Inside]]) -> Markup:
    head = tag("tr", *(tag("th", title, scope="col") for title in titles))
    body = (tag("tr", *_cells(row)) for row in rows)
    return tag(
        "div", tag("table", tag("thead", head), tag("tbody", *body)), class_="scroll", tabindex=0
    )


def _cells(row: Sequence[Inside]) -> Iterator[Markup]:
    yield tag("th", row[0], scope="row", class_="words")
    yield from (tag("td", cell) for cell in row[1:])


def _words(name: str) -> str:
    return name.replace("_", " ")


def _share(rate: Rate) -> Markup:
    if rate.interval is None:
        return join(NOTHING)
    within = tag("span", _within(rate.interval), class_="range")
    return join(percent(rate.share), " ", within)


def _drawn(rate: Rate) -> Markup:
    return join(_share(rate), whisker(rate))


def _brief(rate: Rate) -> Markup:
    """Show a share alone, with its interval as the tooltip."""
    within = None if rate.interval is None else f"{rate.of:,} cases, {_within(rate.interval)}"
    return tag("span", percent(rate.share), title=within)


def _within(interval: Interval) -> str:
    return f"{percent(interval.low)} to {percent(interval.high)}"


def _missing(strata: Sequence[Stratum]) -> Markup | None:
    """List the reasons for missing verdicts and rewards, if there are any."""
    told = [
        f"{what}: {', '.join(f'{kind} {count:,}' for kind, count in sorted(kinds.items()))}."
        for what, kinds in (
            ("No verdict", sum((Counter(s.unjudged) for s in strata), Counter())),
            ("No reward", sum((Counter(s.unscored) for s in strata), Counter())),
        )
        if kinds
    ]
    return tag("p", " ".join(told), class_="quiet missing") if told else None


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3f}"
