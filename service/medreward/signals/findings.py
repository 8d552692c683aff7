"""The fourteen findings of CheXpert that a text asserts, by phrases and the guards' negations.

The names are those of CheXpert (Irvin et al. 2019, arXiv 1901.07031, table 1). The phrases, in
`findings.toml`, and the rules are ours; a report that needs a finer reader needs a model.

A finding is asserted by one of its phrases that no negation governs (`guards/negation.py`) and that
stands in no clause about what is normal or is not meant. A hedged finding counts as asserted, and one
that cannot be excluded does not.
"""

import tomllib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import resources
from typing import Literal, NamedTuple, get_args

from medreward.guards.negation import denials
from medreward.guards.normal import Normal
from medreward.guards.polarity import shape

Finding = Literal[
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Lesion",
    "Lung Opacity",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
]
FINDINGS: tuple[Finding, ...] = get_args(Finding)


class Mention(NamedTuple):
    """A phrase in a text."""

    finding: Finding | None
    """None if the phrase contains that of a finding and means something else."""
    places: tuple[int, ...]
    """Places of its words in the text."""


class _Lexicon(NamedTuple):
    """Phrases by the stems of their words, and words by their use."""

    phrases: Mapping[tuple[str, ...], Finding | None]
    longest: int
    """Words of the longest phrase."""
    passed_over: frozenset[str]
    normal: frozenset[str]
    nothing: frozenset[str]


def findings_in(text: Normal) -> frozenset[Finding]:
    """Return the findings that a text asserts.

    `No Finding` is among them if a clause says just that, or if the text asserts nothing else and
    denies a finding or calls something normal. A text that says nothing of findings has none.
    """
    denial, asides = denials(text)
    apart = denial.doubtful | asides.spared | asides.others
    asserted: set[Finding] = set()
    tells_normal = not _lexicon().nothing.isdisjoint(denial.denied) or any(
        word.text in _lexicon().normal and place not in denial.doubtful
        for place, word in enumerate(text.words)
    )
    for finding, places in mentions(text):
        if finding == "No Finding":
            tells_normal = True
            if _ends_clause(text, places[-1]):
                asserted.add(finding)
        elif any(shape(text.words[place].text).stem in denial.denied for place in places):
            tells_normal = True
        if finding not in {None, "No Finding"} and apart.isdisjoint(places):
            asserted.add(finding)
    if not asserted and tells_normal:
        asserted.add("No Finding")
    return frozenset(asserted)


def _ends_clause(text: Normal, place: int) -> bool:
    """Return whether punctuation or the end of the text follows a word."""
    if place + 1 == len(text.words):
        return True
    return not text.text[text.words[place].end : text.words[place + 1].start].isspace()


def mentions(text: Normal) -> Iterator[Mention]:
    """Yield the phrases in a text, the longest at each place, none within another."""
    known = _lexicon()
    words = [
        (place, shape(word.text).stem)
        for place, word in enumerate(text.words)
        if word.text not in known.passed_over
    ]
    start = 0
    while start < len(words):
        for length in range(known.longest, 0, -1):
            within = words[start : start + length]
            stems = tuple([stem for _, stem in within])
            if stems in known.phrases:
                yield Mention(known.phrases[stems], tuple([place for place, _ in within]))
                start += len(within)
                break
        else:
            start += 1


@lru_cache(maxsize=1)
def _lexicon() -> _Lexicon:
    """Read `findings.toml` once a process."""
    path = resources.files("medreward.signals") / "findings.toml"
    table = tomllib.loads(path.read_text("utf-8"))
    named: list[tuple[str, Finding | None]] = [(text, None) for text in table["words"]["others"]]
    for finding in FINDINGS:
        named += [(text, finding) for text in (finding.lower(), *table["findings"][finding])]
    phrases = {tuple(shape(word).stem for word in text.split()): name for text, name in named}
    words = {use: frozenset(listed) for use, listed in table["words"].items()}
    return _Lexicon(
        phrases,
        max(map(len, phrases)),
        words["passed_over"],
        words["normal"],
        words["nothing"],
    )
