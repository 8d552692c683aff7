"""Single words whose meanings exclude each other: left and right, hypo- and hyper-, benign."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from medreward.guards.lexicon import lexicon as read_lexicon
from medreward.guards.normal import WordMemory
from medreward.guards.numerals import ORDINALS, ROMAN

Key = tuple[str, str]
"""Name of a rule and of one group under it; members of one key exclude each other."""

MAX_CHARACTERS = 40
"""Longest word that is looked up; longer runs of letters have no meaning here."""

MIN_REST = 3
"""Characters of a word without its prefix or suffix, at least."""

REST = 5
"""Characters of the rest that are compared: `hypotension` contradicts `hypertensive`."""


_DIGRAPH = re.compile(
    r"\b(hypo|iso|micro|macro|electro|gastro|neuro|cardio|broncho|retro|auto|pneumo)(?=o?e)"
    "|[ao]e"
)
"""Matches a prefix before a vowel that is not part of a digraph: `hypoechoic`, `hypo-oestrogenism`."""


class Shape(NamedTuple):
    """Meaning of a word, independent of its context."""

    stem: str
    says: tuple[tuple[Key, str], ...] = ()
    """Keys, each with the member that the word states."""
    denies: tuple[str, ...] = ()
    """Words that its prefix may negate: `displaced` for `nondisplaced`."""
    tells: bool = False
    """False if the word states nothing in any context."""
    is_open: bool = False
    """True if its neighbours may change its meaning."""
    counts: bool = False
    """True if the word may belong to a numbered term."""


@dataclass(frozen=True)
class Lexicon:
    """Words of `lexicons/contrast.toml`, indexed for look-up."""

    table: Mapping[str, Any]

    @cached_property
    def words(self) -> Mapping[str, tuple[tuple[Key, str], ...]]:
        """Members that each word states."""
        return _inverted([*self.table["words"], *_lookalikes()])

    @cached_property
    def groups(self) -> frozenset[Key]:
        """Keys of groups of words: what they speak of is another word, as with `left`."""
        return frozenset(key for key, _ in _keyed(self.table["words"]))

    @cached_property
    def bound(self) -> frozenset[Key]:
        """Keys whose members exclude each other with the same noun only, as with `above`."""
        return frozenset(key for key, group in _keyed(self.table["words"]) if group.get("bound"))

    @cached_property
    def opposites(self) -> Mapping[tuple[Key, str], str]:
        """The other member of each member whose denial states it: `malignant` for `benign`."""
        found: dict[tuple[Key, str], str] = {}
        for key, group in _keyed(self.table["words"]):
            if group.get("exhaustive"):
                one, other = group["members"]
                found |= {(key, one): other, (key, other): one}
        return found

    @cached_property
    def phrases(self) -> Mapping[str, Mapping[str, tuple[tuple[Key, str], ...]]]:
        """Members that two words in a row state, by the first and the second word."""
        found: dict[str, dict[str, tuple[tuple[Key, str], ...]]] = {}
        for phrase, said in self.words.items():
            first, _, second = phrase.partition(" ")
            if second:
                found.setdefault(first, {})[second] = said
        return found

    @cached_property
    def signs(self) -> tuple[re.Pattern[str], Mapping[str, tuple[Key, str]]]:
        """Pattern of the Chinese signs that state a member, and what each states."""
        groups = [(key, group["members"].keys()) for key, group in _keyed(self.table["words"])]
        said: dict[str, tuple[Key, str]] = {}
        for number, group in enumerate(self.table["signs"]):
            own = (group["name"], f"signs{number}")
            alike = (
                key
                for key, members in groups
                if key[0] == own[0] and group["members"].keys() <= members
            )
            key = next(alike, own)
            said |= {
                sign: (key, member) for member, signs in group["members"].items() for sign in signs
            }
        return re.compile("|".join(sorted(said, key=len, reverse=True))), said

    @cached_property
    def prefixes(self) -> Mapping[str, tuple[tuple[Key, str], ...]]:
        """Members that each prefix states."""
        return _inverted(self.table["prefixes"])

    @cached_property
    def suffixes(self) -> Mapping[str, tuple[tuple[Key, str], ...]]:
        """Members that each suffix states."""
        return _inverted(self.table["suffixes"])

    @cached_property
    def endings(self) -> tuple[str, ...]:
        """All suffixes, for a test that most words fail."""
        return tuple(self.suffixes)

    @cached_property
    def compatible(self) -> frozenset[tuple[Key, str, str]]:
        """Pairs of members that may describe the same thing, in both orders."""
        return frozenset(
            (key, *pair)
            for key, group in _keyed(self.table["words"])
            for a, b in group.get("compatible", ())
            for pair in ((a, b), (b, a))
        )

    @cached_property
    def together(self) -> Mapping[Key, tuple[str, frozenset[str]]]:
        """Member of a group that several others state together: `bilateral` for left and right."""
        return {
            key: (whole, frozenset(parts))
            for key, group in _keyed(self.table["words"])
            for whole, parts in group.get("together", {}).items()
        }

    @cached_property
    def abbreviations(self) -> Mapping[str, tuple[tuple[Key, str], ...]]:
        """Members that each abbreviation in capitals states."""
        first = {key[0]: key for key, _ in reversed(list(_keyed(self.table["words"])))}
        return {
            word: tuple((first[name], member) for name, member in said.items())
            for word, said in self.table["abbreviations"].items()
        }

    @cached_property
    def compounds(self) -> tuple[frozenset[str], frozenset[str]]:
        """Words that do not state an amount before certain nouns, and these nouns."""
        compounds = self.table["compounds"]
        return frozenset(compounds["after"]), frozenset(compounds["nouns"])

    @cached_property
    def negating(self) -> Mapping[str, int]:
        """Negating prefixes, each with the least length of the rest of the word."""
        return dict(self.table["negating"])

    @cached_property
    def silent(self) -> frozenset[tuple[str, str]]:
        """Words that are ignored, each with the word before it."""
        return frozenset(
            (before, word) for before, words in self.table["silent"].items() for word in words
        )

    @cached_property
    def changing(self) -> frozenset[str]:
        """Words that a certain neighbour silences, or makes part of a name."""
        return frozenset({*self.which, *self.compounds[0]} | {word for _, word in self.silent})

    @cached_property
    def numbered(self) -> Mapping[str, Key]:
        """Words that carry a number, each with its key."""
        found = {
            word: (rule, word) for rule, words in self.table["numbered"].items() for word in words
        }
        return found | dict.fromkeys(self.table["numbered"]["digit"], ("digit", ""))

    @cached_property
    def digits(self) -> Mapping[str, str]:
        """Fingers and toes that have names, with their numbers."""
        return dict(self.table["digits"]["names"])

    @cached_property
    def which(self) -> Mapping[str, str]:
        """Words that identify a finger or toe if they precede it: `middle finger`."""
        return dict(self.table["digits"]["before"])

    @cached_property
    def counting(self) -> frozenset[str]:
        """Words that may be the number of a term or identify a finger or toe."""
        return frozenset({*self.digits, *self.which, *ORDINALS, *ROMAN})

    @cached_property
    def uses(self) -> Mapping[str, frozenset[str]]:
        """Words that tell lists, names and empty nouns."""
        return {use: frozenset(words) for use, words in self.table["uses"].items()}

    @cached_property
    def negation(self) -> Mapping[str, frozenset[str]]:
        """Words of negation by their use."""
        uses = {use: frozenset(words) for use, words in self.table["negation"].items()}
        single = frozenset(
            {"not", "t", "cannot", "negative", "free", "ruled", "none", "nicht", "pas"}
        )
        triggers = uses["before"] | uses["lack"] | uses["behind"] | uses["first"] | single
        aside = (
            uses["spared"] | uses["instead"] | uses["whole"] | uses["failing"] | {"not", "contrast"}
        )
        return uses | {"triggers": triggers, "aside": aside, "cues": triggers | aside}


def _lookalikes() -> list[dict[str, Any]]:
    """Return the groups of terms that look or sound alike."""
    lines = read_lexicon("lookalikes")["terms"]
    return [
        {"name": "lookalike", "members": {term: term.split(",") for term in line.split()}}
        for line in lines
    ]


def _keyed(groups: list[dict[str, Any]]) -> Iterator[tuple[Key, dict[str, Any]]]:
    for number, group in enumerate(groups):
        yield (group["name"], next(iter(group["members"])) + str(number)), group


def _inverted(groups: list[dict[str, Any]]) -> dict[str, tuple[tuple[Key, str], ...]]:
    found: dict[str, tuple[tuple[Key, str], ...]] = {}
    for key, group in _keyed(groups):
        for member, words in group["members"].items():
            for word in words:
                found[word] = (*found.get(word, ()), (key, member))
    return found


@lru_cache(maxsize=1)
def lexicon() -> Lexicon:
    """Load the lexicon once a process."""
    return Lexicon(read_lexicon("contrast"))


def shape(word: str) -> Shape:
    """Look up the meaning of a folded word."""
    return shapes[word]


def _shape(word: str) -> Shape:
    if len(word) > MAX_CHARACTERS:
        return Shape(word)
    stem = stemmed(word)
    known = lexicon()
    said = known.words.get(word) or known.words.get(stem) or known.words.get(respelled(word), ())
    says = (*said, *_affixes(stem, known))
    if len(says) > 1:
        # A contrast of meaning names a veto better than one of spelling.
        says = tuple(sorted(says, key=lambda one: one[0][0] == "lookalike"))
    denies = tuple(_denied(stem, known))
    is_mark = len(word) == 1 or word in known.abbreviations or word in known.phrases
    is_open = is_mark or word in known.changing
    has_digit = not word.isalpha() and any(map(str.isdigit, word))
    counts = has_digit or word in known.counting or stem in known.numbered
    tells = bool(says or denies or is_mark or counts)
    return Shape(stem, says, denies, tells, is_open, counts)


shapes = WordMemory(_shape)
"""Meanings of words."""


def _affixes(stem: str, known: Lexicon) -> Iterator[tuple[Key, str]]:
    prefixes, has_suffix = known.prefixes, stem.endswith(known.endings)
    for cut in range(1, len(stem) - MIN_REST + 1):
        for (rule, group), member in prefixes.get(stem[:cut], ()):
            # `a|cute` has no prefix: one letter counts only before a long rest.
            if cut > 1 or len(stem) - cut >= REST:
                yield (rule, f"{group}-{stem[cut:][:REST]}"), member
        for (rule, group), member in known.suffixes.get(stem[cut:], ()) if has_suffix else ():
            if cut >= MIN_REST:
                yield (rule, f"{stem[:cut]}-{group}"), member


def _denied(stem: str, known: Lexicon) -> Iterator[str]:
    for prefix, least in known.negating.items():
        if stem.startswith(prefix) and len(stem) - len(prefix) >= least:
            yield stem[len(prefix) :]


def respelled(text: str) -> str:
    """Convert the British spelling of words to the American one."""
    if len(text) > len("toes") and ("ae" in text or "oe" in text):
        text = _DIGRAPH.sub(lambda found: found[1] or "e", text)
    return text.replace("our", "or") if len(text) > len("colour") - 1 and "our" in text else text


def stemmed(word: str) -> str:
    """Respell a word and remove its plural ending."""
    word = respelled(word)
    if word.endswith("ies") and len(word) > len("ies") + 1:
        return word[:-3] + "y"
    is_plural = word.endswith("s") and not word.endswith(("ss", "us", "is", "as", "os"))
    return word[:-1] if is_plural and len(word) > MIN_REST else word
