"""Answers that need no model: the same words, yes or no, an option, a quantity.

Only plain cases are settled; the judge decides the rest.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from medreward.guards.decoration import undecorated
from medreward.guards.measures import Quantity, alone
from medreward.guards.normal import Normal
from medreward.guards.numbered import CARDINALS
from medreward.guards.pair import Pair, Span
from medreward.guards.polarity import respelled
from medreward.guards.yes_no import yes_no

_ARTICLE = re.compile(r"^(?:a|an|the)\s+(?=\S)")
_HYPHEN = re.compile(r"(?<=[^\W\d_])-(?=[^\W\d_])")
_EDGES = " \t\n\"'`*.!"

_OPTION = re.compile(r"(?<![^\W_])\(?([a-j])[.):](?=\s)\s*")
_CHOICE = re.compile(
    r"(?:(?:the )?(?:correct |best |right |final )?(?:answer|option|choice)(?: is)?:?\s*"
    r"(?:option\s*)?)?\(?([a-j])(?:\)?[.):]?|\)?[.):]\s+(\S.*)|\)\s*(\S.*))",
    re.DOTALL,
)
_DIGIT = re.compile(r"\d")

MIN_OPTIONS = 2

MAX_CHOICE = 40
"""Characters of a text that only chooses a letter: `the correct answer is option B`."""


class Settled(NamedTuple):
    """A verdict that needs no model."""

    says_yes: bool
    rule: str
    """One of `equal`, `yes_no`, `option`, `quantity`, `number`."""
    span: Span
    """Range in the answer."""
    reference_span: Span | None = None


def settle(pair: Pair) -> Settled | None:
    """Settle a plain case; None if a model has to decide.

    Answer and reference are compared without their decoration.
    """
    bare = pair._replace(answer=undecorated(pair.answer), reference=undecorated(pair.reference))
    answer, reference = bare.answer, bare.reference
    decided = _equal(answer, reference) or _option(bare) or _yes_no(bare)
    decided = decided or _quantity(answer, reference)
    if decided is None:
        return None
    says_yes, rule = decided
    whole, against = Span(0, len(pair.answer.text)), Span(0, len(pair.reference.text))
    return Settled(says_yes, rule, whole, against)


Decision = tuple[bool, str] | None
"""True for yes and False for no, with the rule; None if undecided."""


def _equal(answer: Normal, reference: Normal) -> Decision:
    said = answer.derived(_plain)
    return (True, "equal") if said and said == reference.derived(_plain) else None


def _plain(text: Normal) -> str:
    return plain(text.folded)


def plain(folded: str) -> str:
    """Remove what does not change the meaning of a folded text: article, hyphens, final stop.

    Everything else stays: `< 5` is not `5`.
    """
    text = " ".join(folded.split()).strip(_EDGES)
    if "-" in text:
        text = _HYPHEN.sub(" ", text)
    if "'s " in text:
        # Barrett's esophagus is Barrett esophagus.
        text = text.replace("'s ", " ")
    return respelled(_ARTICLE.sub("", text))


def _yes_no(pair: Pair) -> Decision:
    agree = yes_no(pair.answer, pair.reference, pair.question)
    return None if agree is None else (agree, "yes_no")


def _option(pair: Pair) -> Decision:
    options = pair.question.derived(_options) if pair.question is not None else {}
    meant = _choice(pair.reference, options)
    if meant is None:
        return None
    said = _choice(pair.answer, options)
    return None if said is None else (said == meant, "option")


def _options(question: Normal) -> Mapping[str, str]:
    """Read the options of a question: `A. text`, `(A) text`, `A) text`, in order."""
    folded = question.folded
    marks: list[re.Match[str]] = []
    for mark in _OPTION.finditer(folded):
        if ord(mark[1]) - ord("a") == len(marks):
            marks.append(mark)
    if len(marks) < MIN_OPTIONS:
        return {}
    ends = [mark.start() for mark in marks[1:]] + [len(folded)]
    texts = [folded[mark.end() : end] for mark, end in zip(marks, ends, strict=True)]
    texts[-1] = texts[-1].split("\n")[0]
    return {
        mark[1]: plain(text.strip().rstrip(",;")) for mark, text in zip(marks, texts, strict=True)
    }


CONTRADICTION = "contradiction"
"""Choice of a text that combines one option's letter with another option's text."""


def _choice(text: Normal, options: Mapping[str, str]) -> str | None:
    """Return the letter that a text chooses, or `CONTRADICTION`; None if it is not a choice."""
    if not options and len(text.folded) > MAX_CHOICE:
        return None
    found = _CHOICE.fullmatch(text.folded.strip())
    if found is None:
        return _named(text.derived(_plain), options)
    letter, rest = found[1], plain(found[2] or found[3] or "")
    if not rest:
        return letter
    named = _named(rest, options)
    if named is None or options.get(letter) == rest:
        return None if named is None else letter
    return CONTRADICTION


def _named(said: str, options: Mapping[str, str]) -> str | None:
    return next((letter for letter, text in options.items() if text == said), None)


def _quantity(answer: Normal, reference: Normal) -> Decision:
    meant = _number(reference)
    if meant is None:
        return None
    said = _number(answer)
    if said is None or said.dimension != meant.dimension:
        return None
    if said.is_same(meant):
        return True, "quantity" if said.dimension else "number"
    is_plain = not said.dimension and said.is_point and meant.is_point
    return (False, "number") if is_plain else None


def _number(text: Normal) -> Quantity | None:
    said = CARDINALS.get(text.derived(_plain), text.folded)
    return alone(said) if _DIGIT.search(said) else None
