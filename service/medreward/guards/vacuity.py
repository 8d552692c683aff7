"""Empty answers: blank, an opening, a bare verdict, a refusal, or generic words."""

import re
from functools import lru_cache

from medreward.guards.injection import names_all
from medreward.guards.lexicon import pattern_of, words_of
from medreward.guards.normal import AUXILIARIES, STOPWORDS, Normal, Word, stem
from medreward.guards.numerals import CARDINALS
from medreward.guards.options import read_options
from medreward.guards.pair import Pair, Span, Veto
from medreward.guards.polarity import shape

MIN_LETTERS = 2
"""Letters or digits of an answer, at least, unless the reference is as short."""

SMALL = 12
"""Distinct words of an opening or a bare verdict, at most."""

MIN_COVER = 0.5
"""Share of the reference's words above which talk about reasoning counts as an answer."""

_SHORTENED = {
    "male": "mf",
    "female": "mf",
    "yes": "yn",
    "no": "yn",
    "anterior": "ap",
    "posterior": "ap",
}
"""Letters that may stand for a word of the reference, or for its opposite."""

_SIDES = "lrbgdi"
"""Letters that stand for a side in English, French, German or Spanish, or for both sides."""

MAX_CAPITALS = 4
"""Letters of an abbreviation, at most."""

MIN_RESULT = 4
"""Words of meaning of a statement about evidence that is a result, more than."""

MAX_REFUSAL = 12
"""Words of meaning of a refusal in which nobody says `I`, at most."""

_SPEAKERS = frozenset({"i", "we", "my", "me", "our", "im", "ai"})

MIN_SAID = 2
"""Words of meaning of a sentence that says something, at least."""

MAX_SENTENCES = 16
"""Sentences that are looked at one by one, at most."""

_RESULTS = frozenset({"positive", "negative"})
"""Words of a verdict that are results of tests too."""

_SIGN = re.compile(r"[↑↓⬆⬇↗↘▲▼]{1,4}|\+{1,4}")
_ION = re.compile(r"[A-Z][⁺⁻+-]")
_DIGIT = re.compile(r"\d")
_SENTENCE = re.compile(r"[.!?;:\n]\s")

_ALWAYS_WHOLE = re.compile(r"\d|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
"""Matches a digit or an East Asian character: each carries as much as two letters."""


def vacuity(pair: Pair) -> Veto | None:
    """Veto an answer without content."""
    rule = _rule(pair) if pair.answer.vocabulary else _blank_rule(pair)
    return None if rule is None else Veto(f"vacuity.{rule}", Span(0, len(pair.answer.text)))


def _blank_rule(pair: Pair) -> str | None:
    return "blank" if pair.reference.vocabulary and not _is_sign(pair) else None


def _rule(pair: Pair) -> str | None:
    # Most answers have a word that no opening or verdict has, and none of the other rules' words.
    left = pair.answer.vocabulary - _hollow()
    is_hollow = max(map(len, left), default=0) < MIN_LETTERS
    if is_hollow and (rule := _hollow_rule(pair)):
        return rule
    if pair.answer.folded.isascii() and _cues().isdisjoint(pair.answer.vocabulary):
        return None
    if _is_too_wide(pair):
        return "generic"
    if _is_refusal(pair):
        return "refusal"
    return "reasoning" if _is_reasoning_alone(pair) else None


def _hollow_rule(pair: Pair) -> str | None:
    """Return the rule of an answer of a few empty words, unless the reference has them all."""
    answer = pair.answer.vocabulary
    if len(answer) > SMALL or answer <= pair.reference.vocabulary:
        return None
    if _is_too_short(pair):
        return "opener"
    return "verdict" if _is_verdict_alone(pair) else None


@lru_cache(maxsize=1)
def _hollow() -> frozenset[str]:
    return words_of("openers") | words_of("verdicts")


@lru_cache(maxsize=1)
def _cues() -> frozenset[str]:
    triggers = words_of("refusals", "triggers") | words_of("reasoning", "triggers")
    return triggers | words_of("generic", "wide")


def _is_too_short(pair: Pair) -> bool:
    left = pair.answer.vocabulary - words_of("openers")
    size = sum(map(len, left))
    if size >= MIN_LETTERS or (left and _ALWAYS_WHOLE.search("".join(left))):
        return False
    if pair.reference.vocabulary <= pair.answer.vocabulary:
        return False
    if not pair.answer.content.isdisjoint(pair.reference.content):
        return False
    is_short = sum(map(len, pair.reference.tokens)) < MIN_LETTERS
    # `a` opens a phrase, but is an option where the question has that one.
    if any(_is_abbreviation(word, pair) for word in pair.answer.words):
        return False
    if _is_initials(pair):
        return False
    letters = frozenset(word for word in pair.answer.vocabulary if len(word) == 1)
    return not ((left and is_short) or (letters and letters & _answering(pair)))


def _is_sign(pair: Pair) -> bool:
    """Return whether an answer of arrows or plus signs may stand for an amount: `↑`."""
    return _SIGN.fullmatch(pair.answer.text.strip()) is not None and any(
        rule in {"amount", "size", "result"}
        for word in pair.reference.vocabulary
        for (rule, _), _ in shape(word).says
    )


def _is_initials(pair: Pair) -> bool:
    """Return whether the answer's letters may stand for the reference: `H&E`, `P-A`, `I`, `K+`."""
    if read_options(pair.question).texts:
        return False
    letters = "".join(pair.answer.tokens)
    told = [word for word in pair.reference.tokens if word not in STOPWORDS]
    is_ion = _ION.fullmatch(pair.answer.text.strip()) is not None
    is_short = pair.answer.text.strip().isupper() and len(letters) == len(pair.answer.tokens)
    return is_ion or (is_short and letters in {"".join(word[0] for word in told), "".join(told)})


def _is_abbreviation(word: Word, pair: Pair) -> bool:
    """Return whether a word in capitals may stand for the reference: `LA` for `left atrium`."""
    size, initials = len(word.text), [said[0] for said in pair.reference.tokens]
    is_short = MIN_LETTERS <= size <= MAX_CAPITALS
    return (
        is_short and pair.answer.text[word.start : word.end].isupper() and word.text[0] in initials
    )


def _answering(pair: Pair) -> frozenset[str]:
    """Return the single letters that are an answer: of the options, a side, yes or no."""
    letters = frozenset(read_options(pair.question).texts)
    for word in pair.reference.vocabulary:
        is_side = any(rule == "laterality" for (rule, _), _ in shape(word).says)
        letters |= frozenset(_SIDES if is_side else _SHORTENED.get(word, ""))
    return letters


def _is_verdict_alone(pair: Pair) -> bool:
    """Return whether the answer is only a verdict, and not the one that the reference gives."""
    said = _spelled(pair.answer)
    if not said <= words_of("verdicts") or said.isdisjoint(words_of("verdicts", "yes", "no")):
        return False
    if not _RESULTS.isdisjoint(said) and not _RESULTS.isdisjoint(pair.reference.vocabulary):
        return False
    if "not" in said:
        return True
    yes, no = words_of("verdicts", "yes"), words_of("verdicts", "no")
    first = pair.reference.tokens[:1]
    if first and first[0] in yes:
        return not said.isdisjoint(no)
    if first and first[0] in no | words_of("generic", "negations"):
        return not said.isdisjoint(yes)
    return not (len(pair.answer.tokens) == 1 and _asks_yes_or_no(pair.question))


def _spelled(answer: Normal) -> frozenset[str]:
    """Return the words, or the one word that is spelled letter by letter."""
    if sum(map(len, answer.tokens)) == len(answer.tokens) > 1:
        return frozenset({"".join(answer.tokens)})
    return answer.vocabulary


def _asks_yes_or_no(question: Normal | None) -> bool:
    return question is not None and question.tokens[:1] != () and question.tokens[0] in AUXILIARIES


def _is_too_wide(pair: Pair) -> bool:
    """Return whether the answer fits most patients, or most patients with that organ."""
    wide = words_of("generic", "wide")
    said = pair.answer.vocabulary
    if said.isdisjoint(wide) or not said.isdisjoint(words_of("generic", "negations")):
        return False
    left = said - wide - STOPWORDS - words_of("openers", "english")
    regions = words_of("generic", "regions")
    if not left <= regions:
        return False
    told = pair.reference.vocabulary - STOPWORDS
    if not told.isdisjoint(words_of("generic", "wide_references")) or "maybe" in said & told:
        return False
    if said == {"maybe"} and _asks_yes_or_no(pair.question):
        return False
    named = told - wide - regions
    if not left:
        return bool(told - wide)
    # A reference of one word may name organ and disease at once (nephropathy),
    # so an answer that names the organ may be right.
    return bool(named) and len(told) > 1 and not _says_alike(left | said, named)


def _says_alike(said: frozenset[str], named: frozenset[str]) -> bool:
    return not {stem(word)[:4] for word in said}.isdisjoint({stem(word)[:4] for word in named})


def _is_refusal(pair: Pair) -> bool:
    if not _may_match(pair.answer, "refusals"):
        return False
    found = pattern_of("refusals", "patterns").search(pair.answer.folded)
    if found is None:
        return False
    # `People who cannot identify tastes` is a description: no one speaks.
    is_told = len(pair.answer.content) > MAX_REFUSAL and _SPEAKERS.isdisjoint(
        pair.answer.vocabulary
    )
    if is_told and found.start() > 0:
        return False
    is_excused = pattern_of("refusals", "excused_by").search(pair.reference.folded)
    if _is_result(pair, found.end()):
        return False
    return not is_excused and not names_all(pair.answer, pair.reference)


def _is_result(pair: Pair, place: int) -> bool:
    """Return whether what looks like a refusal up to *place* answers a question for yes or no.

    `There is not enough evidence` says no, and so does `The appendix could not be identified`.
    """
    question = pair.question
    if question is None or not _asks_yes_or_no(question):
        return False
    is_no = pair.reference.tokens[:1] == ("no",)
    if "evidence" in pair.answer.vocabulary:
        return is_no or len(pair.answer.content) > MIN_RESULT
    before = Normal(pair.answer.folded[:place]).content
    return (
        is_no
        and _SPEAKERS.isdisjoint(pair.answer.vocabulary)
        and not before.isdisjoint(question.content)
    )


def _is_reasoning_alone(pair: Pair) -> bool:
    if not _may_match(pair.answer, "reasoning"):
        return False
    patterns = pattern_of("reasoning", "patterns", "interjections")
    if not patterns.search(pair.answer.folded) or _concludes(pair) or _refuses_alike(pair):
        return False
    # Words of the question are in every answer to it, a dodging one too.
    asked = frozenset[str]() if pair.question is None else pair.question.content
    told = pair.reference.content - asked or pair.reference.content
    return len(told & pair.answer.content) <= MIN_COVER * len(told)


def _refuses_alike(pair: Pair) -> bool:
    """Return whether both say that something cannot be told: `unable to determine`."""
    refusals = pattern_of("refusals", "patterns")
    return all(refusals.search(text.folded) for text in (pair.reference, pair.answer))


def _concludes(pair: Pair) -> bool:
    """Return whether something is said besides the reasoning: a value, an option, another sentence."""
    answer, patterns = pair.answer, pattern_of("reasoning", "patterns", "interjections")
    if _has_number(answer) and _has_number(pair.reference):
        return True
    options = read_options(pair.question).texts
    if any(
        answer.text[word.start : word.end].isupper() and word.text in options
        for word in answer.words
        if len(word.text) == 1
    ):
        return True
    opening = pattern_of("reasoning", "openings").match(answer.folded)
    if opening is not None and not patterns.search(answer.folded, opening.end()):
        return True
    asked = frozenset[str]() if pair.question is None else pair.question.content
    hollow = asked | frozenset(
        map(stem, words_of("generic", "wide") | words_of("openers", "english"))
    )
    told = answer.folded
    # `Sure, the ratio is above 0.5` says yes.
    if _asks_yes_or_no(pair.question):
        told = pattern_of("reasoning", "interjections").sub("", told)
    return any(
        not patterns.search(sentence) and len(Normal(sentence).content - hollow) >= MIN_SAID
        for sentence in _SENTENCE.split(told, maxsplit=MAX_SENTENCES)
    )


def _has_number(text: Normal) -> bool:
    return _DIGIT.search(text.folded) is not None or not text.vocabulary.isdisjoint(CARDINALS)


def _may_match(answer: Normal, name: str) -> bool:
    """Return whether the answer has a word that every pattern of the lexicon *name* needs."""
    is_english = answer.folded.isascii()
    return not is_english or not words_of(name, "triggers").isdisjoint(answer.vocabulary)
