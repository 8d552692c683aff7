"""Copies: an answer that repeats the question or lists its options."""

import re
from functools import lru_cache

from medreward.guards.lexicon import words_of
from medreward.guards.normal import ASKING, AUXILIARIES, STOPWORDS, Normal, stem
from medreward.guards.options import Options, read_options
from medreward.guards.pair import Pair, Span, Veto

MIN_SHARE = 0.6
"""Share of the question's words from which an answer of only such words is a copy."""

SHORT_REFERENCE = 12
"""Words of a short reference; with a longer one, letters may number the answer's findings."""

_OPTION = re.compile(r"(?:^|(?<=[\s;,?:.]))\(?([a-j])[.):]\s{1,8}", re.MULTILINE)
_LETTERS = frozenset("abcdefghij")
_LISTING = frozenset(
    (
        "a",
        "an",
        "and",
        "all",
        "of",
        "the",
        "above",
        "following",
        "options",
        "option",
        "both",
        "are",
        "is",
        "or",
    )
)
_JOINT = frozenset(("all", "both", "none", "neither"))
"""Words of an option that speaks of the others: `all of the above`."""
_ASIDES = frozenset(("you", "asked", "asks", "ask", "stated", "said"))
_AGAINST = frozenset(
    (
        "not",
        "no",
        "t",
        "rather",
        "unlike",
        "without",
        "than",
        "excluding",
        "except",
        "neither",
        "nor",
    )
)


def copying(pair: Pair) -> Veto | None:
    """Veto an answer that is the question, or that names two or more of its options."""
    if _lists_options(pair):
        return Veto("copying.options", Span(0, len(pair.answer.text)))
    if pair.question is None or not pair.question.text:
        return None
    rule = _options_rule(pair) or _question_rule(pair)
    return None if rule is None else Veto(rule, Span(0, len(pair.answer.text)))


def _lists_options(pair: Pair) -> bool:
    """Return whether the answer is a list of options while the short reference is not."""
    # Most answers have no letter that stands alone.
    if _LETTERS.isdisjoint(pair.answer.vocabulary):
        return False
    if not _OPTION.search(pair.answer.folded) or len(pair.reference.tokens) > SHORT_REFERENCE:
        return False
    # An option before the list is the choice, and the list explains it.
    return _adds_options(pair) and not _OPTION.search(read_options(pair.answer).stem.folded)


def _adds_options(pair: Pair) -> bool:
    """Return whether the answer has options, and the reference has none."""
    return bool(read_options(pair.answer).texts) and not read_options(pair.reference).texts


def _options_rule(pair: Pair) -> str | None:
    options = read_options(pair.question)
    if not options.texts:
        return None
    named, meant = _named(pair.answer, options), _named(pair.reference, options)
    if named and named < meant and pair.answer.vocabulary - _LISTING <= named:
        return "contrast.part"
    if len(named) < 2 or named <= meant:  # noqa: PLR2004 one is a choice
        return None
    # Who says why all are right names them all.
    told = pair.reference.content.union(*(options.content.get(letter, ()) for letter in meant))
    if not told.isdisjoint(_JOINT) or _names_one_first(pair.answer, options, meant):
        return None
    if len(named) == len(options.texts):
        return "copying.options"
    # `B, not C` names two options but chooses one. A negation that is part of
    # an option's own text does not count as such a choice.
    against = _AGAINST - frozenset[str]().union(*options.content.values())
    is_choice = not against.isdisjoint(pair.answer.vocabulary)
    is_choice = is_choice or _concludes(pair.answer, options)
    return None if is_choice or _chooses_one(pair.answer, options) else "hedge.options"


_CHOSEN = re.compile(
    r"(?:\b(?:answer|option|choice|correct)\b(?: is)?(?: therefore| thus)?:?"
    r"|\b(?:so|therefore|thus|hence),?(?: it is)?|\\boxed)"
    r"\s{0,3}[*({\\]{0,3}(?:text\{|option )?\(?([a-j])\b(?!,? (?:and|or|&) )"
    r"|(?<![^\W_])([a-j])\)?\*{0,2} is (?:the )?(?:right|correct|true|best|answer)\b"
    r"|\*\*\(?([a-j])\b"
)
_LEADING = re.compile(r"\W{0,6}([a-j])(?:[.):]|\*\*)\s")


_CLAUSE = re.compile(r"[,;:.(\n]|\s[-–—]\s|\b(?:because|since|as|whereas|while|due)\b")  # noqa: RUF001


def _names_one_first(answer: Normal, options: Options, meant: frozenset[str]) -> bool:
    """Return whether one option meant is named alone, and then the others to explain it.

    A list of options, with guesses between them or without, explains nothing.
    """
    if _marks_two(answer):
        return False
    start = 0
    for end in _CLAUSE.finditer(answer.folded):
        clause, start = Normal(answer.folded[start : end.start()]), end.end()
        if chosen := _named(clause, options):
            idle = (words_of("hedges", "around", "joining") | STOPWORDS | _LISTING) - _AGAINST
            rest = Normal(answer.folded[end.start() :]).vocabulary - idle
            # Behind a comma, `are the causes` may end the list.
            said = options.stem.content if end[0] == "," else frozenset[str]()
            said = said.union(*options.content.values())
            is_one = len(chosen) == 1 and (chosen <= meant or not meant)
            return is_one and not said >= frozenset(map(stem, rest))
    return False


_CONCLUSION = re.compile(
    r"\b(?:so|therefore|thus|hence|which makes|this makes|making)\b([^.;:\n]{1,200})"
)


def _concludes(answer: Normal, options: Options) -> bool:
    """Return whether an answer ends by naming one option: `A would be pale, so this is a B`."""
    found = list(_CONCLUSION.finditer(answer.folded))
    return bool(found) and len(_named(Normal(found[-1][1]), options)) == 1


def _marks_two(answer: Normal) -> bool:
    return len(_OPTION.findall(answer.folded)) > 1


def _chooses_one(answer: Normal, options: Options) -> bool:
    """Return whether an answer that speaks of several options says which one it chooses."""
    chosen = {found[found.lastindex or 1] for found in _CHOSEN.finditer(answer.folded)}
    if not chosen and (found := _LEADING.match(answer.folded)) and not _marks_two(answer):
        chosen = {found[1]}
    return len(chosen & options.texts.keys()) == 1


def _named(text: Normal, options: Options) -> frozenset[str]:
    """Return the letters of the options that a text names, by content or only by letter."""
    listed = text.vocabulary - _LISTING
    if (
        len(text.tokens) == 1
        and len(text.folded) > 1
        and set(text.tokens[0]) <= options.texts.keys()
    ):
        return frozenset(text.tokens[0])
    if listed <= options.texts.keys():
        letters = [word for word in text.tokens if word in options.texts]
        return frozenset(letters)
    found = {letter: said for letter, said in options.content.items() if said <= text.content}
    # If one option contains another, only the longer one is named.
    return frozenset(
        letter
        for letter, said in found.items()
        if not any(said < other for other in found.values())
    )


def _question_rule(pair: Pair) -> str | None:
    options = read_options(pair.question)
    question = options.stem if options.texts else pair.question
    if question is None or not question.tokens:
        return None
    if _is_repeated_with_options(pair, question):
        return "copying.options"
    is_made_of_it = pair.answer.content - _skipped() <= question.derived(_told)
    return "copying.question" if is_made_of_it and _is_copy(pair, question) else None


def _is_copy(pair: Pair, question: Normal) -> bool:
    """Return whether an answer of only the question's words repeats it rather than answers it."""
    said, asked = pair.answer.derived(_told), question.derived(_told)
    if not said or len(said) < MIN_SHARE * len(asked):
        return False
    # A statement may answer a yes-or-no question in the question's own words.
    if question.tokens[0] in AUXILIARIES and not _begins_alike(pair.answer, question):
        return False
    return len(said) == len(asked) or not pair.reference.content <= pair.answer.content


def _is_repeated_with_options(pair: Pair, question: Normal) -> bool:
    """Return whether the answer is the question word for word, with options added to it."""
    size = len(question.tokens)
    if pair.answer.tokens[:size] != question.tokens or len(pair.answer.tokens) == size:
        return False
    return _adds_options(pair)


def _told(text: Normal) -> frozenset[str]:
    return text.content - _skipped()


@lru_cache(maxsize=1)
def _skipped() -> frozenset[str]:
    words = (
        STOPWORDS | ASKING | {"identify"} | AUXILIARIES | _ASIDES | words_of("openers", "english")
    )
    return frozenset(map(stem, words))


def _begins_alike(answer: Normal, question: Normal) -> bool:
    """Return whether the answer contains the question's beginning or ends with its first word."""
    first = " ".join(question.tokens[:3])
    is_turned = answer.tokens[-1:] == question.tokens[:1]
    return is_turned or f" {first} " in f" {' '.join(answer.tokens)} "
