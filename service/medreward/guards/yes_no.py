"""Answers that come down to yes, no or maybe, with the question that they answer.

A verdict is stated (`Yes, …`) or claimed in the question's own words: `There is no effusion` to
`Is there an effusion?`. Where the question is no yes-or-no question, or anything in the text may
take the verdict back, none is read. An explanation is trusted only if it claims the same verdict.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from medreward.guards.contrast import contrast
from medreward.guards.lexicon import lexicon, words_of
from medreward.guards.normal import ASKING, AUXILIARIES, STOPWORDS, Normal, normal
from medreward.guards.pair import Pair
from medreward.guards.polarity import shape

Says = Literal["yes", "no", "maybe"]

MAX_MODIFIERS = 4
"""Words of a claim that the question does not have, at most: `a moderate effusion on the right`."""

MAX_ASIDE = 6
"""Words before the auxiliary of a question, at most: `In this image, is there …`."""

MAX_WORDS = 24
"""Words of an explained verdict that agrees, at most."""

MAX_ECHO = 5
"""Words of an answer by the question's verb, at most: `of course it does not`."""

_AFTER_VERDICT = re.compile(r"\s*(?:$|[.,;:!?\n—–。、，；：！،।])|\s+-")  # noqa: RUF001 - as written
_CLAUSE = re.compile(r"(?:[^\W\d_]|[\u0300-\u036f]|,? |(?<=\w)[-'](?=\w)|[，،])+")  # noqa: RUF001 - as written
"""Matches a text of one clause."""
_AROUND = " \n\t,.;:!*—–-。、，；：！،।"  # noqa: RUF001 - as written
_ENDS = " \n\t.!*。"
_ONE_OF_MANY = re.compile("还是|還是|或|[和与與及,、]")
_DENIED_SIGN = re.compile("[没沒不无無未有]")
_IS_THERE = ("有", "可见", "可見", "存在", "未见", "未見")
_MARKS, _BREAKS = "?？؟", ".!?;:\n。？؟¿"  # noqa: RUF001 - as written
_QUESTION = re.compile("[?？؟]")  # noqa: RUF001 - as written
_QUESTION_MARK = re.compile(r"[?？؟吗嗎]|か")  # noqa: RUF001 - as written
_OPEN = ASKING | {"or"}
"""Words of a question that is not answered by yes or no alone."""
_RELATIVES = frozenset(["that", "which", "who", "whom", "whose", "what", "where", "when"])
_TRUTHS = frozenset(["true", "false"])
_PREDICATES = frozenset(["negative", "free"])
"""Denials that need a word behind them: `free of effusion`."""
_LINKS = frozenset(
    [
        "of",
        "for",
        "from",
        "to",
        "into",
        "with",
        "without",
        "than",
        "before",
        "after",
        "like",
        "by",
        "versus",
        "against",
        "as",
    ]
)
_FURTHER = (ASKING - {"when", "who", "whom", "whose"}) | {"if", "and"}
"""Words with which a question asks for more than a verdict."""
_PLACING = frozenset(
    [
        "in",
        "on",
        "at",
        "of",
        "within",
        "under",
        "above",
        "below",
        "near",
        "between",
        "around",
        "over",
        "behind",
    ]
)


class Verdict(NamedTuple):
    """What a text says to a yes-or-no question."""

    says: Says
    explanation: str = ""
    """What the text says besides."""
    is_sure: bool = True
    """True if the explanation claims the same, or there is none."""

    @property
    def is_bare(self) -> bool:
        """True if the text says nothing else."""
        return not self.explanation


class Asked(NamedTuple):
    """A yes-or-no question."""

    topic: tuple[str, ...]
    """Stems of the words that a claim has to repeat, in order."""
    head: tuple[str, ...]
    """The first of them, up to a preposition: `mass` of `a mass in the liver`."""
    is_existence: bool
    """True if it asks whether something is there."""
    words: frozenset[str]


def has_verdict(text: Normal, question: Normal | None) -> bool:
    """Return whether a text answers a question by yes, no or maybe."""
    # Most questions ask for something else, and most texts begin with no verdict.
    may_claim = question is not None and question.derived(_asked) is not None
    may_claim = may_claim or text.folded.startswith(_foreign_phrases())
    if not may_claim and text.derived(_stated) is None:
        return False
    return _verdict(text, question) is not None


def yes_no(pair: Pair) -> bool | None:
    """Compare the verdicts of two texts; None if either has none, or both say more than that."""
    meant = _verdict(pair.reference, pair.question)
    if meant is None:
        return None
    given = _verdict(pair.answer, pair.question)
    if given is None:
        return None
    if given.says != meant.says:
        # `Possibly` hedges a yes as often as it says maybe.
        is_hedged = any(
            not words_of("yes_no", "hedges").isdisjoint(text.vocabulary)
            for text in (pair.answer, pair.reference)
        )
        return None if is_hedged else False
    question = pair.question
    if question is not None and question.derived(_has_parts):
        return None
    if meant.is_bare:
        return True if given.is_sure else None
    # A reference may explain itself, if nothing but a verdict was asked for.
    is_asked = question is not None and question.derived(_asked) is not None
    return True if given.is_bare and is_asked else None


def _has_parts(question: Normal) -> bool:
    """Return whether a question asks for more than a verdict: `Is there a mass? If so, where?`."""
    folded = question.folded
    marks = [match.start() for match in _QUESTION.finditer(folded)]
    if len(marks) != 1:
        return len(marks) > 1
    begin = max(folded.rfind(sign, 0, marks[0]) for sign in ".!;:\n。¿") + 1
    asked, behind = normal(folded[begin : marks[0]]), normal(folded[marks[0] + 1 :])
    is_order = behind.vocabulary <= words_of("yes_no", "ordering", "yes", "no", "maybe")
    return not (is_order and _FURTHER.isdisjoint(asked.vocabulary))


def _verdict(text: Normal, question: Normal | None) -> Verdict | None:
    stated = text.derived(_stated)
    # `False` to `Is it false that …?` is a yes.
    is_truth = stated is not None and text.tokens[0] in _TRUTHS
    if is_truth and question is not None and len(_TRUTHS & question.vocabulary) == 1:
        return None
    if stated is None:
        return None if question is None or not text.words else _claimed(text, question)
    if stated.is_bare:
        return stated
    told = normal(stated.explanation)
    claim = _echo(told, question) or (None if question is None else _claimed(told, question))
    if claim is not None:
        is_short = len(text.tokens) <= MAX_WORDS
        return claim._replace(is_sure=is_short) if claim.says == stated.says else None
    is_doubtful = question is not None and _strays(text, stated, question)
    return None if is_doubtful else stated


def _stated(text: Normal) -> Verdict | None:
    """Read the verdict at the start of a text; None if the text may take it back."""
    tokens = text.tokens
    says = _verdicts().get(tokens[0]) if tokens else None
    if says is None or _QUESTION.search(text.folded):
        return None
    if all(_verdicts().get(token) == says for token in tokens):
        return Verdict(says)
    words, rest = text.words, tokens[1:]
    if not _AFTER_VERDICT.match(text.text, words[0].end):
        return None
    is_back = not words_of("yes_no", "back").isdisjoint(rest)
    is_denied = says == "yes" and bool(_denials(rest))
    is_denied = is_denied or (says == "yes" and re.search("[没不无未無沒]", text.text) is not None)
    if is_back or is_denied or _others(rest, says):
        return None
    return Verdict(says, text.text[words[0].end :].lstrip(_AROUND), is_sure=False)


@lru_cache(maxsize=1)
def _verdicts() -> dict[str, Says]:
    kinds: tuple[Says, ...] = ("yes", "no", "maybe")
    return {word: says for says in kinds for word in words_of("yes_no", says)}


def _others(tokens: Sequence[str], says: Says) -> bool:
    """Return whether words give another verdict; a plain `no` after `maybe` may be a determiner."""
    return any(_verdicts().get(token, says) != says for token in tokens)


def _strays(text: Normal, stated: Verdict, question: Normal) -> bool:
    """Return whether the explanation of a verdict goes another way than the verdict."""
    if stated.says == "maybe":
        return False
    explanation = normal(stated.explanation)
    healthy = words_of("yes_no", "healthy")
    is_asked, is_told = (not healthy.isdisjoint(t.vocabulary) for t in (question, explanation))
    if stated.says == "no":
        if _is_denied(explanation):
            return False
        asked = question.derived(_asked)
        stems = [shape(word).stem for word in explanation.tokens]
        return (is_asked and is_told) or (asked is not None and set(asked.topic) <= set(stems))
    if is_asked is not is_told:
        return True
    for way, other in (("up", "down"), ("down", "up")):
        asked_way, told_way = words_of("yes_no", way), words_of("yes_no", other)
        if (
            not asked_way.isdisjoint(question.vocabulary)
            and asked_way.isdisjoint(text.vocabulary)
            and not told_way.isdisjoint(text.vocabulary)
        ):
            return True
    return contrast(Pair(text, question)) is not None


def _claimed(text: Normal, question: Normal) -> Verdict | None:
    """Read a claim of one clause; the question has to be a yes-or-no question."""
    if len(text.tokens) > MAX_WORDS or not _CLAUSE.fullmatch(text.folded.strip(_ENDS)):
        return None
    if text.folded.startswith(_foreign_phrases()) and _QUESTION_MARK.search(question.folded):
        return _foreign_claim(text, question)
    asked = question.derived(_asked)
    if asked is None or text.tokens[0] in AUXILIARIES:
        return None
    return _echo(text, question) or _short(text, asked) or _repeated(text, asked, question)


def _echo(text: Normal, question: Normal | None) -> Verdict | None:
    """Read an answer by the question's verb: `it does not`, `of course`."""
    words, known = text.tokens, words_of("yes_no", "verbs")
    if not 0 < len(words) <= MAX_ECHO or not text.vocabulary <= known | {"not"}:
        return None
    verbs = text.vocabulary & AUXILIARIES
    is_past = question is None and not verbs.isdisjoint(words_of("yes_no", "past"))
    is_other = question is not None and not verbs <= question.vocabulary
    if is_past or is_other or words[0] in AUXILIARIES | {"not"}:
        return None
    if "not" in words[:-1] or not _CLAUSE.fullmatch(text.folded.strip(_ENDS)):
        return None
    return Verdict("no" if words[-1] == "not" else "yes")


def _asked(question: Normal) -> Asked | None:
    folded = question.folded
    end = max(folded.rfind(mark) for mark in _MARKS)
    if end < 0:
        return None
    begin = max(folded.rfind(sign, 0, end) for sign in _BREAKS) + 1
    sentence = normal(folded[begin:end].strip())
    tokens = sentence.tokens
    start = next((i for i, word in enumerate(tokens[:MAX_ASIDE]) if word in AUXILIARIES), None)
    if start is None or not _OPEN.isdisjoint(tokens) or _is_denied(sentence):
        return None
    words, idle = tokens[start + 1 :], words_of("yes_no", "idle") | STOPWORDS
    told = _told(words, idle)
    if not told:
        return None
    topic = tuple(shape(words[i]).stem for i in told)
    end = next((i for i in range(told[0], len(words)) if words[i] in _PLACING), len(words))
    is_existence = words[0] == "there" or not words_of("yes_no", "exists").isdisjoint(words)
    head = topic[: sum(i < end for i in told)]
    return Asked(topic, head, is_existence, sentence.vocabulary)


def _told(words: Sequence[str], idle: frozenset[str]) -> list[int]:
    """Return the places of words that say something, and of prepositions between two of them.

    `With an effusion` says something by its first word too.
    """
    told: list[int] = []
    held: list[int] = []
    for i, word in enumerate(words):
        if word in STOPWORDS and (word in _LINKS or word in _PLACING):
            held.append(i)
        elif word and word not in idle:
            told += [*(held if told or 0 in held else ()), i]
            held = []
        elif word not in STOPWORDS:
            held = []
    return told


def _is_denied(text: Normal) -> bool:
    return bool(_denials(text.tokens))


def _denials(words: Sequence[str]) -> list[int]:
    """Return the places of words that deny; `free` and `negative` do before a preposition only."""
    denials, after = words_of("yes_no", "denials"), (*words[1:], "")
    return [
        i
        for i, word in enumerate(words)
        if word in denials and (word not in _PREDICATES or after[i] in {"for", "of", "from"})
    ]


def _short(text: Normal, asked: Asked) -> Verdict | None:
    """Read a statement without a topic: `none seen`, `present`, `it does not`."""
    words = text.vocabulary
    if len(text.folded) == 1 and text.folded in "yn":
        return Verdict("yes" if text.folded == "y" else "no")
    # `None` is less than `not two`.
    is_counted = not words_of("yes_no", "counts").isdisjoint(asked.words)
    there, gone = words & words_of("yes_no", "there"), words & words_of("yes_no", "gone")
    if (
        not asked.is_existence
        or is_counted
        or words - there - gone - words_of("yes_no", "beside_there")
    ):
        return None
    if len(gone) > 1 or (gone and "one" in there) or not there | (gone - {"not"}):
        return None
    return Verdict("no" if gone else "yes")


def _repeated(clause: Normal, asked: Asked, question: Normal) -> Verdict | None:
    """Read a claim in the question's words: `There is no effusion`, `The trachea is midline`."""
    is_past = not (clause.vocabulary & words_of("yes_no", "past")) <= asked.words
    if is_past or not words_of("yes_no", "doubts").isdisjoint(clause.vocabulary):
        return None
    words = clause.tokens
    if not _RELATIVES.isdisjoint(words[1:]):
        return None
    stems = [shape(word).stem for word in words]
    denied = [i for i in _denials(words) if stems[i] not in asked.topic]
    found = _place(stems, asked.head if denied and asked.is_existence else asked.topic)
    if found is None or len(denied) > 1:
        return None
    idle = words_of("yes_no", "idle") | STOPWORDS | words_of("carriers", "empty")
    said = ["" if i in denied else word for i, word in enumerate(words)]
    others = [i for i in _told(said, idle) if stems[i] not in asked.topic]
    # A denial takes its own preposition with it: `free of effusion`.
    others = [i for i in others if not (i - 1 in denied and words[i] in _LINKS)]
    if denied:
        is_asked = _is_negated(words, denied[0], found, is_existence=asked.is_existence)
        # Behind a comma the topic may be no longer denied: `nothing, an effusion`.
        return None if others or "," in clause.folded or not is_asked else Verdict("no")
    if others and not (asked.is_existence and _modifies(words, others, found)):
        return None
    is_other = contrast(Pair(clause, question)) is not None
    return None if is_other else Verdict("yes", clause.text if others else "")


def _is_negated(
    words: Sequence[str], denial: int, place: tuple[int, int], *, is_existence: bool
) -> bool:
    """Return whether a denial denies what is asked, and not another part of the clause.

    `Surgery is not safe` denies it, `no surgery is safe` and `no patient has a mass` do not.
    """
    word, before = words[denial], words[denial - 1] if denial else ""
    start, end = place
    if is_existence and denial < start:
        between = {*words[denial + 1 : start]}
        return between <= words_of("yes_no", "between")
    is_verb = (word == "not" and before in AUXILIARIES) or (
        word == "t" and before.removesuffix("n") in AUXILIARIES
    )
    if not is_existence:
        return is_verb
    return (is_verb or word == "absent") and AUXILIARIES.issuperset(
        each.removesuffix("n") for each in words[end:denial]
    )


def _modifies(words: Sequence[str], others: Sequence[int], place: tuple[int, int]) -> bool:
    """Return whether other words only describe the topic: `a moderate effusion on the right`.

    A noun before an `of`, or directly behind the topic, would make another topic of it.
    """
    start, end = place
    idle = words_of("yes_no", "idle") | STOPWORDS
    is_linked = any(
        words[i] in _LINKS and (i == 0 or words[i - 1] not in idle) for i in range(start)
    )
    is_compound = end < len(words) and words[end] not in idle
    is_split = any(start <= i < end for i in others)
    known = words_of("yes_no", "modifiers") | words_of("generic", "regions")
    is_known = len(others) <= MAX_MODIFIERS and all(
        words[i] in known or (words[i] in {"in", "on", "at"} and i >= end) for i in others
    )
    return is_known and not (is_linked or is_compound or is_split)


def _place(stems: Sequence[str], topic: Sequence[str]) -> tuple[int, int] | None:
    """Return the places of the first and behind the last word of a topic; None if not in order."""
    places, at = [], 0
    for stem in topic:
        try:
            at = stems.index(stem, at) + 1
        except ValueError:
            return None
        places.append(at)
    return places[0] - 1, places[-1]


def _foreign_claim(text: Normal, question: Normal) -> Verdict | None:
    """Read a claim that ends as the question does: `no hay derrame`, `没有肿瘤`."""
    folded = text.folded.strip(_ENDS)
    asked = question.folded.strip("?？؟¿吗嗎か" + _AROUND)  # noqa: RUF001 - as written
    for says, phrase in _foreign():
        rest = folded[len(phrase) :]
        if not folded.startswith(phrase) or not rest:
            continue
        if rest[:1].isspace() or phrase.endswith("'"):
            idle = words_of("yes_no", "articles")
            told, words = (
                [word for word in normal(said).tokens if word not in idle] for said in (rest, asked)
            )
            before = words[: len(words) - len(told)]
            is_asked = bool(told) and words == before + told and _openers() >= {*before}
        else:
            before_it = asked.removesuffix(rest)
            is_asked = before_it != asked and before_it.endswith(_IS_THERE) and not phrase.isascii()
            is_asked = is_asked and not (_DENIED_SIGN.search(rest) or _ONE_OF_MANY.search(asked))
        if is_asked:
            return Verdict(says)
    return None


@lru_cache(maxsize=1)
def _openers() -> frozenset[str]:
    """Return the words with which a question in another language asks whether something is there."""
    words = " ".join(lexicon("yes_no")["claims"]["yes"]).replace("'", " ").split()
    return words_of("yes_no", "openers").union(words)


@lru_cache(maxsize=1)
def _foreign() -> tuple[tuple[Says, str], ...]:
    """List the phrases of other languages, the longest first."""
    claims = lexicon("yes_no")["claims"]
    kinds: tuple[Says, ...] = ("no", "yes")
    found = [(says, phrase) for says in kinds for phrase in claims[says]]
    return tuple(sorted(found, key=lambda one: -len(one[1])))


@lru_cache(maxsize=1)
def _foreign_phrases() -> tuple[str, ...]:
    return tuple(phrase for _, phrase in _foreign())
