"""Answers that need no model: the same words, yes or no, an option, a quantity.

Only plain cases are settled; the judge decides the rest.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from medreward.guards.decoration import undecorated
from medreward.guards.normal import Normal
from medreward.guards.pair import Pair, Span
from medreward.guards.polarity import respelled
from medreward.guards.quantities import same_quantity

MAX_WORDS = 24
"""Words of an answer that begins with yes or no, at most; the judge decides longer ones."""

YES = frozenset(
    {"yes", "true", "yeah", "sí", "oui", "ja", "sim", "да", "是", "是的", "对", "はい", "نعم"}
    | {"हाँ", "हां", "হ্যাঁ", "evet", "tak", "예", "네", "có"}
)
NO = frozenset(
    {"no", "false", "non", "nein", "não", "nee", "nej", "нет", "否", "不", "不是", "いいえ", "لا"}
    | {"नहीं", "না", "hayır", "nie", "아니요", "아니오", "không"}  # noqa: RUF001 - Turkish
)
_AFTER_VERDICT = re.compile(r"\s*(?:$|[.,;:!?\n—–-]|。|、|،|،|।)")  # noqa: RUF001 - as written

_ARTICLE = re.compile(r"^(?:a|an|the)\s+(?=\S)")
_HYPHEN = re.compile(r"(?<=[^\W\d_])-(?=[^\W\d_])")
_EDGES = " \t\n\"'`*.!"

_OPTION = re.compile(r"(?<![^\W_])\(?([a-j])[.):](?=\s)\s*")
_CHOICE = re.compile(
    r"(?:(?:the )?(?:correct |best |right |final )?(?:answer|option|choice)(?: is)?:?\s*"
    r"(?:option\s*)?)?\(?([a-j])(?:\)?[.):]?|\)?[.):]\s+(\S.*)|\)\s*(\S.*))",
    re.DOTALL,
)

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
    decided = _equal(answer, reference) or _option(bare) or _yes_no(answer, reference)
    decided = decided or same_quantity(bare)
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


def _yes_no(answer: Normal, reference: Normal) -> Decision:
    meant = _verdict(reference)
    if meant is None:
        return None
    said = _verdict(answer)
    if said is None or len(answer.words) > MAX_WORDS:
        return None
    if said.is_yes is not meant.is_yes:
        return False, "yes_no"
    return (True, "yes_no") if said.is_bare or meant.is_bare else None


class _Verdict(NamedTuple):
    is_yes: bool
    is_bare: bool
    """True if the text contains nothing but the verdict."""


def _verdict(text: Normal) -> _Verdict | None:
    """Read the yes or no at the start of a text; None if the text also says the opposite."""
    words = text.words
    if not words or (words[0].text not in YES and words[0].text not in NO):
        return None
    is_yes = words[0].text in YES
    same, opposite = (YES, NO) if is_yes else (NO, YES)
    rest = text.text[words[0].end :]
    if all(word.text in same for word in words):
        return _Verdict(is_yes, is_bare=True)
    is_taken_back = any(word.text in opposite for word in words)
    if is_taken_back or not _AFTER_VERDICT.match(rest):
        return None
    return _Verdict(is_yes, is_bare=False)


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
