"""Answers that choose among the options of a question, by letter or by text."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from medreward.guards.decoration import plain, plain_of
from medreward.guards.lexicon import words_of
from medreward.guards.normal import AUXILIARIES, STOPWORDS, Normal, normal
from medreward.guards.options import Options, read_options
from medreward.guards.pair import Pair

MAX_LETTERS = 60
"""Characters of a text that only names letters, at most: `options A and C are both correct`."""

MAX_WORDS = 40
"""Words of a text that is settled as the right option, at most."""

MAX_BEFORE = 160
"""Characters before a named letter in which a denial or further letters are looked for."""


_LETTER = r"\(?[a-j]\)?[.)]?"
_SEPARATOR = r"\s{0,2}(?:[,;&+、]\s?(?:and |or )?|\s(?:and|or|und|y|et|e|و)\s|和|与|及|或)\s{0,2}"
_LETTERS = re.compile(
    rf"(?:both |either )?(?:the )?(?:correct |best |right |final )?"
    rf"(?:(?:options?|choices?|letters?|answers?)(?: is| are)?:?\s)?"
    rf"(?:options?\s)?({_LETTER}(?:{_SEPARATOR}(?:option )?{_LETTER}){{0,9}})"
    rf"(?P<praise>,? (?:is|are) (?:both |all )?(?:correct|right|true|the (?:correct |right )?answers?))?"
    rf"(?: only| alone)?[.:]?"
)
_ONE = re.compile(r"(?<![a-z])[a-j](?![a-z])")
_RUN = re.compile(r"[A-J]{2,8}")
_LABELLED = re.compile(
    r"(?:option |choice |answer )?(?:\(([a-j])\)[.:,]?|([a-j])(?:[).:、]| -|,(?= [a-z]{2})))\s*(\S.*)",
    re.DOTALL,
)

_JOINING = frozenset(["and", "or", "both", "the", "a", "an", "are", "is", "all"])
"""Words between the texts of several options."""

_COLLECTIVE = re.compile(r"\b(?:above|both|neither|none|all|these)\b|^[a-j](?:,| and| or) ")
"""Matches an option that stands for several others."""

_CAPITAL = re.compile(r"(?<![\w'-])[A-J](?![\w'-])")
_CHOOSABLE = re.compile(
    r"(?<![\w'-])(?:(?<!\A)[A-J](?![\w'-])|\A[A-J](?=[.):,])|(?<=\()[a-j](?=\)))"
)
_ASIDE = re.compile(
    r"(?<=[.\n])\s?(?:Note that )?(?:Option )?([A-J]) is (?:a (?:common )?distractor|incorrect|wrong)\.?\s?\Z"
)
"""Matches a last sentence that calls another letter wrong."""
_RIGHT = re.compile(
    r"\bright (?=answer|choice|option)|\b(?:is|are) (?:right|true)\b", re.IGNORECASE
)
_CLAIMING = frozenset(
    [
        "so",
        "therefore",
        "thus",
        "hence",
        "best",
        "final",
        "choice",
        "letter",
        "i",
        "we",
        "would",
        "must",
        "be",
        "leaves",
    ]
)
"""Words next to the letter of an option that say nothing."""
_NUMBER = re.compile(r"(?<!\w)\d")
_ENDS = frozenset(".;,:(")

_NAME = (
    r"(?:option |choice |answer |letter )?(?:\\(?:boxed|text)\{|[(*$\"']){0,4}"
    r"((?-i:[A-J]))(?![\w'’-])[)*}$\"']{0,4}"  # noqa: RUF001 - as written
)
_CLAIMS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # `The answer is B`.
        (
            r"\b(?:answer|choice|option|letter)s?(?: choice| option| letter)?(?: here)?"
            r"(?: is| are| would be| should be| must be|:| =)\s{1,3}(?:therefore |thus |clearly )?"
            rf"{_NAME}(?=\s{{0,2}}(?:$|[.,;:!()&/\n—–-]|(?:and|or|since|because|as|which|with|not|for)\b))"  # noqa: RUF001
        ),
        # `…, so B.`, `…, which leaves B.`, `…, option B.`.
        (
            r"(?:\b(?:so|therefore|thus|hence|leaves|leaving|leaves only)"
            r"|(?:\A|\b(?:I|we) (?:would )?)(?:choose|chose|select|pick|go with))"
            r"[,:]?\s{1,3}(?:it is |it's |it must be |the )?"
            rf"{_NAME}(?=\s{{0,2}}(?:$|[.,;!\n]))"
        ),
        # `B, since …`.
        r"\A\(?((?-i:[A-J]))\)?(?:,? (?:since|because)|, (?:as|due)|, not(?= \(?[A-J]\b))\b",
    )
)
_PRAISED = re.compile(
    rf"(?<![\w(]){_NAME}(?:\s?\([^().]{{1,80}}\))?(?:,? (?:is|are)) (?:both )?(?:the )?(?:single )?"
    r"(?:correct|right|best|true|most appropriate|answer)\b"
    r"(?! (?:only|if|unless|when|except|provided))",
    re.IGNORECASE,
)
_MORE = re.compile(r"\s{0,2}(?:,? (and|or) |([,&/]) ?)(?:option )?\(?((?-i:[A-J]))(?![\w'’-])\)?")  # noqa: RUF001
_SENTENCE = re.compile(r"[.!?\n]\s")
_DENIED = re.compile(
    r"\b(?:not|n't|t|if|unless|why|whether|never|no|neither|wrong|incorrect|false|least|second|worst"
    r"|some|many|people|students?|says?|said|might|may|could|(?<!i )would|tempt\w*|mistak\w*|thought"
    r"|initially)\b"
)
_TAKEN_BACK = re.compile(
    r"\b(?:actually|wait|correction|instead|reconsider\w*|second thought|on reflection)\b"
)
_ASKS_AGAINST = re.compile(
    r"\b(?:not|except|false|incorrect|least|wrong|untrue|never|contraindicated|avoid(?:ed)?|rule out"
    r"|with(?:hold|held|draw|drawn)|stop(?:ped)?|discontinued?|omit(?:ted)?|unsafe|harmful|dangerous|useless"
    r"|ineffective|unlikely|lacks?|lacking|absent|missing|excluded?|spared|worsens?|inappropriate|unsuitable)\b|错误|不正确|不是|不属于"
)

_SUBORDINATE = frozenset(
    ["that", "who", "whose", "whom", "when", "where", "with", "after", "before"]
)
_DENYING = frozenset("无無不没沒未非否")

Choice = frozenset[str]
"""Letters that a text chooses, or one of the two below."""

CONTRADICTION: Choice = frozenset({"contradiction"})
"""Choice of a text that combines one option's letter with another option's text."""

ALTERNATIVES: Choice = frozenset({"alternatives"})
"""Choice of a text that leaves it open: `B or C`."""


def offers_choice(reference: Normal, bare: Normal, question: Normal | None) -> bool:
    """Return whether a reference may choose an option, or its question offers two alternatives."""
    options = read_options(question)
    if question is not None and "or" in question.vocabulary:
        return True
    if not options.texts:
        # What has no options to name can only be letters.
        return bare.derived(_letters_of) is not None
    return _choice(reference, bare, options, question) is not None


def option(pair: Pair, bare: Pair) -> bool | None:
    """Compare the choices of answer and reference; None if either makes none.

    *bare* is the pair without its decoration, which holds carriers such as `The answer is`.
    """
    options = read_options(pair.question)
    meant = _choice(pair.reference, bare.reference, options, pair.question)
    if meant is None:
        return _closed(bare)
    said = _choice(pair.answer, bare.answer, options, pair.question)
    if said is None or meant in (CONTRADICTION, ALTERNATIVES):
        return None
    is_several = len(said) != len(meant) and CONTRADICTION not in (said, meant)
    if is_several and any(map(_COLLECTIVE.search, options.texts.values())):
        return None
    if said != meant:
        return False
    is_plain = _is_plain(bare.answer, said, options) and _is_plain(bare.reference, said, options)
    return True if is_plain else None


def asks_against(question: Normal) -> bool:
    """Return whether a question asks for what is not, lacking or to be avoided."""
    return _ASKS_AGAINST.search(question.folded) is not None


def is_ambiguous(question: Normal) -> bool:
    """Return whether a letter is an option's text too, as a blood group is."""
    texts = read_options(question).texts.values()
    return any(len(told) == 1 and told.isalpha() for told in texts)


def _choice(text: Normal, bare: Normal, known: Options, question: Normal | None) -> Choice | None:
    """Return what a text chooses; None if it is no choice."""
    options, said = known.texts, bare.derived(plain_of)
    if said and said in options.values():
        return frozenset(letter for letter, told in options.items() if told == said)
    against = question is not None and question.derived(asks_against)
    letters = _letters(bare, options, against=against)
    if letters is not None or not options or question is None:
        return letters
    return (
        _labelled(bare, text, options)
        or _claimed(text, options, against=against)
        or _named(bare, known, question, against=against)
    )


class _Letters(NamedTuple):
    choice: Choice
    is_praise: bool
    """True if the text calls them correct."""


def _letters(text: Normal, options: Mapping[str, str], *, against: bool) -> Choice | None:
    """Read a text of letters alone: `B`, `options A and C`, `AC`."""
    found = text.derived(_letters_of)
    if found is not None and not (against and found.is_praise):
        return found.choice
    run = text.text.strip(" .")
    if not _RUN.fullmatch(run) or sorted(run) != list(run):
        return None
    letters = frozenset(run.lower())
    return letters if letters <= options.keys() else None


def _letters_of(text: Normal) -> _Letters | None:
    if len(text.folded) > MAX_LETTERS:
        return None
    found = _LETTERS.fullmatch(text.folded.strip())
    if found is None:
        return None
    letters = frozenset(_ONE.findall(found[1]))
    is_open = len(letters) > 1 and re.search(r"\bor\b|或", found[1]) is not None
    return _Letters(ALTERNATIVES if is_open else letters, found["praise"] is not None)


def _labelled(text: Normal, whole: Normal, options: Mapping[str, str]) -> Choice | None:
    """Read a letter with a text behind it: `B. Right coronary artery`, perhaps explained."""
    found = _LABELLED.fullmatch(text.folded.strip())
    letter = "" if found is None else (found[1] or found[2])
    if found is None or letter not in options:
        return None
    said, line = plain(found[3]), plain(found[3].split("\n", 1)[0])
    for told, other in sorted(options.items(), key=lambda one: one[0] != letter):
        ends = said[len(other) :][:1]
        # `B. Amlodipine, captopril and the others are safe` explains B.
        is_explained = said.startswith(other) and (
            line == other or (ends in _ENDS and (told == letter or ends != ","))
        )
        if other and (said == other or is_explained):
            if said != other and _claimed(whole, options, against=False) not in (None, {letter}):
                return None
            return frozenset({letter}) if told == letter else CONTRADICTION
    return None


def _claimed(text: Normal, options: Mapping[str, str], *, against: bool) -> Choice | None:
    """Read a letter that a sentence names as the answer: `The answer is B`, `…, so C`."""
    if not any(letter.upper() in text.text for letter in options) or _TAKEN_BACK.search(
        text.folded
    ):
        return None
    claims: set[Choice] = set()
    # Where a question asks for what is wrong, an option that is called right is none.
    for pattern in _CLAIMS if against else (*_CLAIMS, _PRAISED):
        for found in pattern.finditer(text.text):
            claim = _with_more(text.text, found, options, is_praise=pattern is _PRAISED)
            if claim is None:
                return None
            claims.add(claim)
    return claims.pop() if len(claims) == 1 else None


def _with_more(
    text: str, found: re.Match[str], options: Mapping[str, str], *, is_praise: bool
) -> Choice | None:
    """Return the letters of one claim, with those joined to it; None if it is denied or unclear."""
    near = text[max(0, found.start(1) - MAX_BEFORE) : found.start(1)]
    sentence = _SENTENCE.split(near)[-1].lower()
    letters, is_open = {found[1].lower()}, False
    if is_praise:
        near = text[max(0, found.start() - MAX_BEFORE) : found.start()]
        before = re.search(r"(?:\(?[A-J]\)?,? (?:and |or |, ?)){1,8}\Z", near)
        letters.update(_ONE.findall(before[0].lower()) if before else ())
        is_open = before is not None and " or " in before[0]
        sentence = "" if before else sentence
    else:
        end = found.end()
        while (more := _MORE.match(text, end)) is not None:
            is_open = is_open or more[1] == "or" or more[2] == "/"
            letters.add(more[3].lower())
            end = more.end()
        if len(letters) > 1 and re.match(r"\s(?:is|was|are|has|would|can)\b", text[end:]):
            return None
    if _DENIED.search(sentence) or not letters <= options.keys():
        return None
    return ALTERNATIVES if is_open else frozenset(letters)


def _named(text: Normal, known: Options, question: Normal, *, against: bool) -> Choice | None:
    """Read the options whose texts a sentence names, if it says nothing else of its own."""
    is_spaced = text.folded.isascii() or " " in text.folded.strip()
    left = f" {' '.join(text.tokens)} " if is_spaced else text.folded
    named: set[str] = set()
    told = {letter: " ".join(normal(other).tokens) for letter, other in known.texts.items()}
    # Without their signs `HER2+` is `HER2-`, and `0.5` holds a `5`.
    is_unclear = "?" in text.folded or _NUMBER.search(text.folded) is not None
    if len(set(told.values())) < len(told) or is_unclear:
        return None
    for letter, other in sorted(told.items(), key=lambda one: -len(one[1])):
        piece = f" {other} " if is_spaced else other
        if other and piece in left:
            named.add(letter)
            left = left.replace(piece, "  ")
    if not named:
        return None
    if not is_spaced:
        is_asked = left.strip(" 。.、，和") in question.folded  # noqa: RUF001
        return frozenset(named) if is_asked and _DENYING.isdisjoint(left) else None
    rest = [word for word in left.split() if word not in named or word.upper() not in text.text]
    is_list = len(named) > 1 and _JOINING.issuperset(rest)
    is_asked = _is_said_by(rest, frozenset(known.asked)) and not (
        against and not STOPWORDS.issuperset(rest)
    )
    if not is_asked or (len(named) > 1 and not is_list):
        return None
    if "or" in rest:
        return ALTERNATIVES if is_list else None
    # A letter beside a text may be another choice; at the start, `A` is an article.
    letters = {letter.lower() for letter in _CAPITAL.findall(text.text, len("A "))}
    return frozenset(named) if letters <= named else None


def _is_said_by(words: Sequence[str], asked: frozenset[str]) -> bool:
    """Return whether words are the question's or say nothing."""
    against = words_of("yes_no", "denials", "back") | words_of("carriers", "comparing")
    empty = STOPWORDS | words_of("carriers", "empty", "choosing") | {"or"}
    return against.isdisjoint(words) and all(word in empty or word in asked for word in words)


def _is_plain(bare: Normal, choice: Choice, known: Options) -> bool:
    """Return whether a text chooses for certain: nothing stands beside its letter and option text.

    Except for words that say nothing, a last sentence that calls another letter wrong, and behind an
    option's text what the question ends with: `The coronary artery is occluded` answers `Which artery
    is occluded?`. The same word elsewhere, or out of a subordinate clause, may say something else.
    """
    options = known.texts
    if bare.derived(plain_of) in options.values() or _letters(bare, options, against=False):
        return True
    if bare.size > MAX_WORDS or "?" in bare.folded:
        return False
    aside = _ASIDE.search(bare.text)
    said = bare.text[: aside.start()] if aside and aside[1].lower() not in choice else bare.text
    letters = {letter.lower() for letter in _CHOOSABLE.findall(said)} & options.keys()
    if not bare.folded.isascii() and " " not in bare.folded.strip():
        return not letters
    left = f" {' '.join(normal(_RIGHT.sub(' ', said)).tokens)} "
    for piece in [
        " ".join(normal(options[letter]).tokens) for letter in choice if letter in options
    ]:
        left = left.replace(f" {piece} ", "  ") if piece else left
    for letter in letters & choice:
        left = left.replace(f" {letter} ", "  ")
    empty = STOPWORDS | words_of("carriers", "empty", "choosing")
    empty = empty - words_of("carriers", "against") | (_CLAIMING if letters else frozenset())
    before, _, behind = left.partition("  ")
    verb, *rest = behind.split() or [""]
    is_tail = verb in AUXILIARIES and tuple(rest) == known.asked[len(known.asked) - len(rest) :]
    return letters <= choice and (
        empty.issuperset(left.split())
        or (
            is_tail
            and STOPWORDS.issuperset(before.split())
            and _SUBORDINATE.isdisjoint(known.asked)
        )
    )


def _closed(pair: Pair) -> bool | None:
    """Return False if a question offers two alternatives, and the answer is the other one."""
    question = pair.question
    if question is None or "or" not in question.vocabulary:
        return None
    if question.tokens[0] not in AUXILIARIES:
        return None
    told = f" {' '.join(word for word in question.tokens if word not in {'a', 'an', 'the'})} "
    one, other = pair.answer.derived(plain_of), pair.reference.derived(plain_of)
    is_other = bool(one and other) and one != other
    is_offered = f" {one} or {other} " in told or f" {other} or {one} " in told
    return False if is_other and is_offered else None
