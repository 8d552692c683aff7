"""Answers that need no model: the same words, yes or no, an option, a denial, a quantity.

Only plain cases are settled; the judge decides the rest.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

from medreward.guards.absence import denied_alike, denies, is_normal, normal_alike
from medreward.guards.choice import asks_against, is_ambiguous, offers_choice, option
from medreward.guards.decoration import plain, plain_of, undecorated
from medreward.guards.length import MIN_CAP
from medreward.guards.lexicon import lexicon, words_of
from medreward.guards.normal import STOPWORDS, Normal
from medreward.guards.pair import Pair, Span
from medreward.guards.quantities import same_quantity, states_quantity
from medreward.guards.yes_no import has_verdict, yes_no

MAX_WORDS = 24
"""Words of an answer that restates the question, at most."""

MAX_SYMBOL = 3
"""Letters of a symbol of which case matters, at most."""

_ASKED = re.compile(
    r"(?:what|which)(?: ([^\W\d_]+(?: [^\W\d_]+){0,2}))? (is|are|was|were) ([^?.,:;()\n]{3,120})\s?\?"
)
_HOW = re.compile(r"how (is|are|does|do) ([^?.,:;()\n]{3,120}?)(?: appear| look)?\s?\?")
_VERBS = frozenset(["is", "are", "was", "were"])
_HOW_VERBS = {"does": "is", "do": "are"}
_IN_IMAGE = re.compile(
    r" (?:in|on) (?:this|the) (?:\w{1,12} )?(?:image|picture|photograph|photo|film|scan)$"
)
_ARTICLES = ("", "the ", "a ", "an ")
_VERDICTS = frozenset(["yes", "no", "maybe", "none", "normal", "nothing", "negative", "positive"])
"""References that words of the question may turn into another statement: `no fracture`."""

_IN_BRACKETS = re.compile(r"(\w[^()]{2,80}?) ?\(([A-Z]{2,8})\)")
_JOINING = frozenset(["of", "in", "on", "the"])
"""Words between the parts of a place."""

_UNIT = re.compile(r"\d\s?([^\W\d_]+)")


class Settled(NamedTuple):
    """A verdict that needs no model."""

    says_yes: bool
    rule: str
    """One of `equal`, `option`, `yes_no`, `denied`, `normal`, `restated`, `quantity`, `number`."""
    span: Span
    """Range in the answer."""
    reference_span: Span | None = None


def settle(pair: Pair) -> Settled | None:
    """Settle a plain case; None if a model has to decide.

    Answer and reference are compared without their decoration.
    """
    question, reference = pair.question, pair.reference
    if question is None:
        rules = reference.derived(_rules_unasked)
    else:
        rules = reference.beside(question, _rules)
    bare = Pair(undecorated(pair.answer), undecorated(reference), question)
    decided: Ruling | None = None
    for rule in rules:
        decided = rule(pair, bare)
        if decided is not None:
            break
    if decided is None:
        return None
    says_yes, name = decided
    if says_yes and pair.answer.size > max(MIN_CAP, reference.size):
        return None
    whole, against = Span(0, len(pair.answer.text)), Span(0, len(reference.text))
    return Settled(says_yes, name, whole, against)


Ruling = tuple[bool, str]
"""True for yes and False for no, with the rule."""

Rule = Callable[[Pair, Pair], Ruling | None]
"""Decides a pair, of which the second argument has no decoration."""


def _rules_unasked(reference: Normal) -> tuple[Rule, ...]:
    return _rules(reference, None)


def _rules(reference: Normal, question: Normal | None) -> tuple[Rule, ...]:
    """Return the rules that may settle an answer to a question against a reference.

    Most references are a term, which admits two of them; all answers of a group share the result.
    """
    if question is not None and question.derived(is_ambiguous):
        return ()
    bare = undecorated(reference)
    is_denying = question is not None and question.derived(asks_against)
    is_named = question is not None and bool(bare.tokens) and bool(question.derived(_frames))
    rules: tuple[tuple[Rule, bool], ...] = (
        (_equal_as_meant if is_denying else _equal, True),
        (_option, offers_choice(reference, bare, question)),
        (_yes_no, has_verdict(bare, question)),
        (_denied_alike, denies(bare)),
        (_normal_alike, is_normal(bare)),
        (_restated, is_named),
        (_same_quantity, states_quantity(bare)),
    )
    return tuple([rule for rule, is_admitted in rules if is_admitted])


def _equal_as_meant(pair: Pair, bare: Pair) -> Ruling | None:
    # `Asthma is seen` is no answer to `What is excluded?`.
    return _equal(pair, bare) if pair.answer.tokens == bare.answer.tokens else None


def _option(pair: Pair, bare: Pair) -> Ruling | None:
    return _ruled(option(pair, bare), "option")


def _yes_no(_: Pair, bare: Pair) -> Ruling | None:
    return _ruled(yes_no(bare), "yes_no")


def _denied_alike(_: Pair, bare: Pair) -> Ruling | None:
    return _ruled(denied_alike(bare), "denied")


def _normal_alike(_: Pair, bare: Pair) -> Ruling | None:
    return _ruled(normal_alike(bare), "normal")


def _same_quantity(_: Pair, bare: Pair) -> Ruling | None:
    return same_quantity(bare)


def _equal(_: Pair, bare: Pair) -> Ruling | None:
    answer, reference = bare.answer, bare.reference
    (said, in_full), (meant, meant_in_full) = answer.derived(_spelled), reference.derived(_spelled)
    is_same = said == meant or in_full == meant_in_full
    if not said or not is_same or answer.derived(_units) != reference.derived(_units):
        return None
    symbols = {answer.derived(_symbol), reference.derived(_symbol)} - {""}
    return (True, "equal") if len(symbols) < len("ab") else None


def _units(text: Normal) -> tuple[str, ...]:
    """Return the words behind numbers as written: `5 Mg` is not `5 mg`."""
    return tuple(_UNIT.findall(text.text))


def _symbol(text: Normal) -> str:
    """Return a short text with capitals as written, if it is one: `Co` is not `CO`."""
    word = text.text.strip(" .")
    return word if len(word) <= MAX_SYMBOL and not word.islower() else ""


def _spelled(text: Normal) -> tuple[str, str]:
    """Return the plain form of a text, and that with its short forms of sides and places in full."""
    words, same, lowered = _short_forms()
    drugs, drug = _drugs()
    written = said = text.derived(plain_of)
    # `Left lower lobe (LLL)` says the same twice.
    if text.text.endswith(")") and (twice := _IN_BRACKETS.fullmatch(text.text)):
        term = plain(twice[1].lower())
        initials = "".join([word[0] for word in term.split()])
        said = term if initials == twice[2].lower() else said
    told = [] if lowered.isdisjoint(text.vocabulary) else text.text.strip(" .").split()
    if not words.keys().isdisjoint(told):
        places = words_of("short_forms", "places")
        said = plain(
            " ".join(
                # A letter may also be a nucleus, an isomer or a lead.
                word.lower()
                if len(word) == 1 and len(told) > 1 and follower.lower() not in places
                else words.get(word, word.lower())
                for word, follower in zip(told, [*told[1:], ""], strict=True)
            )
        )
    if not drugs.isdisjoint(text.vocabulary):
        said = drug.sub(lambda found: lexicon("short_forms")["names"][found[0]], said)
    if not _positions()["part"].keys().isdisjoint(said.split()):
        said = _in_order(said)
    return written, same.get(said, said)


def _in_order(said: str) -> str:
    """Return a place in one order of words, as `left lower lobe`; any other text as it is."""
    found: dict[str, str] = {}
    for word in said.split():
        if word in _JOINING:
            continue
        slot = next((slot for slot, words in _positions().items() if word in words), None)
        # Every word has to be known, and of each kind there is one: two levels are two places.
        if slot is None or slot in found:
            return said
        found[slot] = _positions()[slot][word]
    if not {"level", "part"} <= found.keys():
        return said
    # Lobes that are called upper or lower are those of the lungs.
    if found["part"] in {"lobe", "lobes"}:
        found.setdefault("organ", "lung")
    return " ".join([found[slot] for slot in _positions() if slot in found])


def _positions() -> Mapping[str, Mapping[str, str]]:
    """Return the words of places, each with the one it stands for, by kind in the order of a place."""
    table: Mapping[str, Mapping[str, str]] = lexicon("short_forms")["positions"]
    return table


@lru_cache(maxsize=1)
def _short_forms() -> tuple[Mapping[str, str], Mapping[str, str], frozenset[str]]:
    """Return the short words, the short texts, and the words in lower case for a quick test."""
    table = lexicon("short_forms")
    texts = {text: side for side, same in table["texts"].items() for text in same}
    return table["words"], texts, frozenset(map(str.lower, table["words"]))


@lru_cache(maxsize=1)
def _drugs() -> tuple[frozenset[str], re.Pattern[str]]:
    """Return the first words of the names of drugs that have another one, and their pattern."""
    names = lexicon("short_forms")["names"]
    return frozenset(name.split()[0] for name in names), re.compile(rf"\b(?:{'|'.join(names)})\b")


def _ruled(agree: bool | None, rule: str) -> Ruling | None:
    return None if agree is None else (agree, rule)


def _restated(_: Pair, bare: Pair) -> Ruling | None:
    """Settle an answer that is the reference in a sentence made of the whole question.

    `The central vein is occluded` to `Which vessel is occluded?`; a part of the question's words
    may say something else.
    """
    question, answer = bare.question, bare.answer
    meant, said = bare.reference.derived(plain_of), answer.derived(plain_of)
    if question is None or meant not in said or meant in _VERDICTS:
        return None
    # Every such sentence has a verb, and few answers have one.
    if _VERBS.isdisjoint(answer.vocabulary):
        return None
    is_restated = len(answer.tokens) <= MAX_WORDS and any(
        said == plain(f"{before}{article}{meant}{behind}")
        for before, behind in question.derived(_frames)
        for article in _ARTICLES
    )
    return (True, "restated") if is_restated else None


def _frames(question: Normal) -> tuple[tuple[str, str], ...]:
    """Return what may stand before and behind the term that a question asks for."""
    asked = " ".join(question.folded.split())
    if (how := _HOW.fullmatch(asked)) is not None:
        return ((f"{how[2]} {_HOW_VERBS.get(how[1], how[1])} ", ""),)
    found = _ASKED.fullmatch(asked)
    noun = found[1] if found is not None else None
    if found is None or (noun and not STOPWORDS.isdisjoint(noun.split())):
        return ()
    verb, rest = found[2], _IN_IMAGE.sub("", found[3].rstrip())
    frames = [("", f" {verb} {rest}")]
    if noun is None:
        frames.append((f"{rest} {verb} ", ""))
    elif " " not in rest:
        # `The affected lobe is …`.
        frames.append((f"{rest} {noun} {verb} ", ""))
    return tuple(frames)
