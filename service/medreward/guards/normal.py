"""Normalised copies of texts for detection; the judge reads the original.

Characters that look alike have one form in the copy: NFKC, lower case, one sign for all dashes and
one for each kind of quotes, Latin letters for Cyrillic and Greek ones inside Latin words, and no
invisible characters. Each word keeps its place in the original text.
"""

# ruff: noqa: RUF001, RUF003 this module handles characters that look like others

import re
import threading
import unicodedata
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypeVar
from weakref import ref

WORD = re.compile(r"[^\W_]+")

# Vowel signs and tone marks belong to their word, but `\w` does not match them.
_MARKS = (
    "\u0300-\u036f\u0591-\u05bd\u05bf-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed"
    "\u0900-\u0903\u093a-\u094f\u0951-\u0957\u0962\u0963\u0981-\u0983\u09bc-\u09cd\u09d7\u0a01-\u0a71"
    "\u0abc-\u0acd\u0b3c-\u0b57\u0bbe-\u0bcd\u0c00-\u0c56\u0cbc-\u0cd6\u0d3b-\u0d57\u0e31-\u0e4e\u200c\u200d"
)
_MARKED_WORD = re.compile(rf"[^\W_](?:[^\W_]|[{_MARKS}])*")

_SUPERSCRIPTS = frozenset("⁰¹²³⁴⁵⁶⁷⁸⁹")
_FRACTIONS = frozenset("¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞")
_ALIKE = str.maketrans(
    dict.fromkeys("‐‑‒–—―−﹣", "-")
    | dict.fromkeys("‘’‛′ʼ", "'")
    | dict.fromkeys("“”„″", '"')
    | {"⁄": "/"}
)

_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]"
)
_JOINERS = frozenset("\u200c\u200d")
"""Joiners select the shape of a letter in Indic and Arabic script, so they are not hidden there."""

_FIRST_OTHER_SCRIPT = "\u0590"
"""First character after the Latin, Greek and Cyrillic ones; Vietnamese letters lie behind it too."""

LOOKALIKES = str.maketrans(
    "асеіјорхуѕԁһӏԛԝАВСЕНІЈКМОРЅТХУονιυρτΑΒΕΖΗΙΚΜΝΟΡΤΥΧ",
    "aceijopxysdhlqwABCEHIJKMOPSTXYoviuptABEZHIKMNOPTYX",
)
"""Cyrillic and Greek letters that look Latin, without those used in medicine: α β γ κ μ."""

_LETTERS = re.compile(r"[^\W\d_]+")
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")
_OTHER_LETTER = re.compile(r"[\u0370-\u03ff\u0400-\u052f]")
_GREEK_BETWEEN = re.compile(r"(?<=[a-z])[αη](?=[a-z])")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")

AUXILIARIES = frozenset(
    [
        "is",
        "are",
        "was",
        "were",
        "do",
        "does",
        "did",
        "can",
        "could",
        "has",
        "have",
        "had",
        "will",
        "would",
        "should",
    ]
)
"""First words of questions that are answered by yes or no."""

ASKING = frozenset(
    [
        "what",
        "which",
        "who",
        "whom",
        "whose",
        "where",
        "when",
        "why",
        "how",
        "name",
        "describe",
    ]
)
"""Words of questions that are answered by a term."""

STOPWORDS = frozenset(
    (
        *("a", "an", "the", "of", "in", "on", "at", "to", "by", "for", "from", "with", "as"),
        *("is", "are", "was", "were", "be", "been", "being", "this", "that", "these"),
        *("those", "it", "its", "and", "there", "here", "which", "who", "whom", "has"),
        *("have", "had", "do", "does", "did", "will", "would", "shall", "so", "such", "than"),
        *("then", "also", "any", "some", "into", "within"),
    )
)
"""Words without a meaning of their own; `no`, `not`, `or` and `without` are not among them."""

_ENDINGS = ("es", "s", "al", "ic", "ed", "ing", "ity")
_STEM_LETTERS = 4
"""Letters that a stem keeps, at least; otherwise the ending stays."""

CACHE_BYTES = 64 * 2**20
"""Memory of the texts and words that are kept, at most, if a setting says nothing else."""

BYTES_A_TEXT, BYTES_A_CHARACTER = 7_500, 220
"""Memory of a text with all that the guards find in it, about; a test measures it."""

BYTES_A_WORD, BYTES_A_LETTER = 360, 12
"""Memory of a word with what is found for it, about; a test measures it."""

TEXTS_SHARE, WORDS_SHARE, SAMPLES_SHARE = 2, 8, 8
"""Texts take one part in two of the memory, each of three memories of words one in eight, and the
parsed samples of the service one in eight."""

MAX_CACHED = 40
"""Characters of a word that is remembered, at most; longer runs of letters hold no meaning."""

MAX_MARKS = 30
"""Marks on one character that are read, at most. No script writes as many, and normalising a run of
them takes time that grows with the square of its length."""

T = TypeVar("T")


class WordMemory(dict[str, T]):
    """What a function finds for each word: a look-up that costs no call once the word is known."""

    def __init__(self, find: Callable[[str], T]) -> None:
        super().__init__()
        self._find = find
        self.counted_bytes = 0
        _memories.append(self)

    def __missing__(self, word: str) -> T:
        found = self._find(word)
        if len(word) <= MAX_CACHED:
            size = BYTES_A_WORD + BYTES_A_LETTER * len(word)
            with _lock:
                if self.counted_bytes + size > _limit.bytes // WORDS_SHARE:
                    self.clear()
                    self.counted_bytes = 0
                self.counted_bytes += size
                self[word] = found
        return found


class _Once(Generic[T]):
    """A property that is computed once: `cached_property` without its lock, which costs as much again."""

    def __init__(self, find: Callable[[Any], T]) -> None:
        self._find, self._name, self.__doc__ = find, find.__name__, find.__doc__

    def __get__(self, text: Any, owner: type) -> T:
        found = self._find(text)
        # From now on the attribute hides this one, and no call is made.
        setattr(text, self._name, found)
        return found


class Word(NamedTuple):
    """A folded run of letters and digits, with its place in the original text."""

    text: str
    start: int
    end: int


class Folding(NamedTuple):
    """Folded form of a text that is not all ASCII."""

    folded: str
    places: tuple[tuple[int, int], ...]
    """Range of each folded character in the original text."""
    hidden: tuple[tuple[int, int], ...]
    lookalikes: tuple[tuple[int, int], ...]


class Normal:
    """A text, folded so that characters that look alike are equal."""

    def __init__(self, text: str) -> None:
        self.text = text
        """The original text."""
        self._folding = None if text.isascii() else _fold(text)
        if self._folding is None:
            self.folded = text.lower()
            self.tokens: tuple[str, ...] = tuple(WORD.findall(self.folded))
            """Words without their places."""
        else:
            self.folded = self._folding.folded
            self.tokens = tuple(_MARKED_WORD.findall(self.folded))
        self.vocabulary = frozenset(self.tokens)
        """Distinct words."""
        self._derived: dict[Callable[..., Any], Any] = {}

    def derived(self, derive: Callable[["Normal"], T]) -> T:
        """Return what *derive*, a function of this module's users, finds in the text.

        It is computed once, and kept as long as the text is: each text has one cache.
        """
        # Not `cast`, which would be a call for each of some twenty look-ups a sample.
        found: T = self._derived.get(derive, _NOT_YET)
        if found is _NOT_YET:
            found = self._derived[derive] = derive(self)
        return found

    def beside(self, other: "Normal", derive: Callable[["Normal", "Normal"], T]) -> T:
        """Return what *derive* finds in the text together with another, as a reference with its question.

        It is kept for one other text, which it does not keep alive: the cache counts each text alone.
        """
        kept = self._derived.get(derive)
        if kept is None or kept[0]() is not other:
            kept = self._derived[derive] = (ref(other), derive(self, other))
        found: T = kept[1]
        return found

    @property
    def hidden(self) -> tuple[tuple[int, int], ...]:
        """Ranges of invisible characters: zero width, direction, tags, fillers."""
        return () if self._folding is None else self._folding.hidden

    @property
    def lookalikes(self) -> tuple[tuple[int, int], ...]:
        """Ranges of Latin words in which some letters only look Latin."""
        return () if self._folding is None else self._folding.lookalikes

    def place(self, start: int, end: int) -> tuple[int, int]:
        """Map a range of the folded text to the original text."""
        if self._folding is None or start >= end:
            return start, end
        return self._folding.places[start][0], self._folding.places[end - 1][1]

    @_Once
    def words(self) -> tuple[Word, ...]:
        """Words of the folded text, in order."""
        if self._folding is None:
            return tuple([Word(m[0], m.start(), m.end()) for m in WORD.finditer(self.folded)])
        found = _MARKED_WORD.finditer(self.folded)
        return tuple(Word(m[0], *self.place(m.start(), m.end())) for m in found)

    @_Once
    def content(self) -> frozenset[str]:
        """Stems of all words except stop words."""
        return frozenset([_stems[word] for word in self.vocabulary - STOPWORDS])

    @_Once
    def plain(self) -> str:
        """The folded text without accents."""
        if self._folding is None:
            return self.folded
        return "".join(map(_without_accents, self.folded))

    @_Once
    def size(self) -> int:
        """Number of words; two characters of a script without spaces count as one."""
        packed = len(_CJK.findall(self.folded)) if self._folding else 0
        return len(self.tokens) + packed // 2


def normal(text: str) -> Normal:
    """Fold a text and cache the result: samples of a group share their reference and question."""
    with _lock:
        found = _texts.get(text)
        if found is not None:
            _texts.move_to_end(text)
            return found
    return _kept(Normal(text))


def _kept(text: Normal) -> Normal:
    """Put a text into the cache, and drop those that were used least recently."""
    size = counted_bytes(text)
    most = _limit.bytes // TEXTS_SHARE
    # A text that would displace a large share of the others is not worth it.
    if size > most // 8:
        return text
    with _lock:
        # Another thread may have put the same text.
        if text.text not in _texts:
            _texts[text.text] = text
            _texts.counted_bytes += size
        while _texts.counted_bytes > most:
            _texts.counted_bytes -= counted_bytes(_texts.popitem(last=False)[1])
    return text


def limit_cache(most_bytes: int) -> None:
    """Set the memory that texts and words of this process may take together, by estimate."""
    _limit.bytes = most_bytes


def cache_bytes() -> int:
    """Return the memory of the remembered texts and words, by estimate."""
    return _texts.counted_bytes + sum(memory.counted_bytes for memory in _memories)


def clear_cache() -> None:
    """Forget all texts, as a benchmark does before each round."""
    with _lock:
        _texts.clear()
        _texts.counted_bytes = 0


def counted_bytes(text: Normal) -> int:
    """Return the memory that a cached text takes with all its findings, by a high estimate."""
    # Folding makes some characters several: a ligature may become eighteen.
    return BYTES_A_TEXT + BYTES_A_CHARACTER * max(len(text.text), len(text.folded))


class _Texts(OrderedDict[str, Normal]):
    """Texts in the order of their last use."""

    counted_bytes = 0


class _Limit:
    """Memory of the texts and words that are kept, at most."""

    bytes = CACHE_BYTES


# Guards run in several threads. The lock is held for a look-up or an insertion only.
_lock = threading.Lock()
_limit = _Limit()
_memories: list[WordMemory[Any]] = []
_texts = _Texts()
_NOT_YET: Any = object()


def stem(word: str) -> str:
    """Remove the ending of an English plural, adjective or participle."""
    return _stems[word]


def _stem(word: str) -> str:
    if word.endswith("ies") and len(word) > _STEM_LETTERS + 1:
        return f"{word[:-3]}y"
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _STEM_LETTERS:
            return _without_e(word[: -len(ending)])
    return _without_e(word)


def _without_e(word: str) -> str:
    return word.removesuffix("e") if len(word) > _STEM_LETTERS else word


_stems = WordMemory(_stem)


def is_same(one: Normal, other: Normal) -> bool:
    """Return whether two folded texts are equal, ignoring white space."""
    return one.folded == other.folded or one.folded.split() == other.folded.split()


def _fold(text: str) -> Folding:
    seen, lookalikes = _without_lookalikes(text)
    folded: list[str] = []
    places: list[tuple[int, int]] = []
    hidden: list[tuple[int, int]] = []
    for start, end in _clusters(seen):
        cluster = seen[start:end]
        if _UNSEEN.match(cluster) and not _is_shaping(cluster, folded):
            hidden.append((start, start + 1))
            cluster = cluster[1:]
        piece = _folded[cluster[: MAX_MARKS + 1]]
        if cluster in _SUPERSCRIPTS and not (start and seen[start - 1] in _SUPERSCRIPTS):
            piece = f"^{piece}"
        elif cluster in _FRACTIONS and folded and folded[-1].isdigit():
            piece = f" {piece}"
        folded.append(piece)
        places += [(start, end)] * len(piece)
    return Folding("".join(folded), tuple(places), tuple(hidden), tuple(lookalikes))


def _clusters(text: str) -> list[tuple[int, int]]:
    """Split a text into characters, each with the marks that follow it."""
    starts = [i for i, sign in enumerate(text) if not i or not _is_mark(sign)]
    return list(zip(starts, [*starts[1:], len(text)], strict=True))


def _is_mark(sign: str) -> bool:
    # The vowel and final consonant of a decomposed Korean syllable belong to
    # its first letter, though Unicode does not class them as marks.
    is_jamo = "\u1161" <= sign <= "\u11ff"
    return is_jamo or (unicodedata.category(sign)[0] == "M" and not _UNSEEN.match(sign))


def _is_shaping(cluster: str, folded: list[str]) -> bool:
    before = next((piece[-1] for piece in reversed(folded[-2:]) if piece), "")
    return (
        cluster[0] in _JOINERS
        and before >= _FIRST_OTHER_SCRIPT
        and not "\u1e00" <= before <= "\u1eff"
    )


def _folded_cluster(cluster: str) -> str:
    lowered = unicodedata.normalize("NFKC", cluster.translate(_ALIKE)).casefold()
    folded = unicodedata.normalize("NFKC", lowered).translate(_ALIKE)
    return " " if folded.isspace() and folded not in {"\n", "\t"} else folded


_folded = WordMemory(_folded_cluster)


# One character at a time: a run of marks is not put into order, which would take the square of its
# length. Single characters are so few that their number is a bound in bytes.
@lru_cache(maxsize=4096)
def _without_accents(character: str) -> str:
    parts = unicodedata.normalize("NFD", character)
    return "".join(part for part in parts if not "\u0300" <= part <= "\u036f")


def _without_lookalikes(text: str) -> tuple[str, list[tuple[int, int]]]:
    """Replace look-alikes inside Latin words by Latin letters; the text's length does not change."""
    if not _OTHER_LETTER.search(text):
        return text, []
    found: list[tuple[int, int]] = []

    def write(run: re.Match[str]) -> str:
        letters = run[0]
        if not _OTHER_LETTER.search(letters) or not _LATIN.search(letters):
            return letters
        latin = _GREEK_BETWEEN.sub("a", letters).translate(LOOKALIKES)
        # A letter that is still not Latin means a medical term (TNFα) or a
        # word of another language: it stays as written.
        if latin == letters or not all(_LATIN.match(sign) for sign in latin):
            return letters
        found.append(run.span())
        return latin

    return _LETTERS.sub(write, text), found
