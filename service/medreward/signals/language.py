"""The signal `language`: the answer is in the wanted language, and each tag occurs once (CURE-Med).

    value = (1 - tags_share) * L + tags_share * T

L is 1 if the answer is in the sample's language, else 0. T is 1 if the response has exactly one
`<thinking>…</thinking>` and exactly one `<answer>…</answer>`, as `re.findall` counts them: in any
order, with any text around them.

Source: CURE-Med, arXiv 2601.13262, `rewards.py` of the three stages in AikyamLab/cure-med:
0.65 · accuracy + 0.30 · L + 0.05 · T. Hence the default share: `language` with weight 0.35 beside a
judge with weight 0.65 is that sum.

Ours: L is found by py3langid, a classifier, instead of a language model, in the answer alone (stages 2
and 3 of the paper). The language is the likeliest of `among` and the wanted one. An answer without a
letter is in every language if it has a digit, and in none otherwise.
"""

import unicodedata
from functools import lru_cache
from typing import Annotated, Self

from py3langid.langid import MODEL_FILE, LanguageIdentifier
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from medreward.guards.normal import MAX_MARKS
from medreward.signals.blocks import blocks
from medreward.signals.kind import Rollout, SignalKind

CODES = {
    "amharic": "am",
    "bengali": "bn",
    "english": "en",
    "french": "fr",
    "hausa": "ha",
    "hindi": "hi",
    "japanese": "ja",
    "korean": "ko",
    "spanish": "es",
    "swahili": "sw",
    "thai": "th",
    "turkish": "tr",
    "vietnamese": "vi",
    "yoruba": "yo",
}
"""The languages of CURE-Med's data by the names that it gives them, and English."""

TAGS = ("thinking", "answer")
NO_LANGUAGE = "zxx"
"""The classifier's label of what is not a language."""


@lru_cache(maxsize=1)
def identifier() -> LanguageIdentifier:
    """Load the classifier once a process: 1.2 s, 120 MiB."""
    return LanguageIdentifier.from_model_file(MODEL_FILE)


def _code(language: str) -> str:
    """Return the code of a language that is given by its name in `CODES` or by a BCP 47 tag."""
    named = language.strip().lower()
    code = CODES.get(named, named.partition("-")[0])
    if code == NO_LANGUAGE or code not in identifier().labels:
        raise ValueError("no language that is told apart; give an ISO 639 code such as `yo`")
    return code


Language = Annotated[str, Field(max_length=32), AfterValidator(_code)]


class Options(BaseModel):
    """How languages are told apart, and what the tags are worth."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    among: Annotated[tuple[Language, ...], Field(max_length=64)] = tuple(CODES.values())
    """Languages that the policy may answer in; the fewer, the surer a short answer is identified."""
    tags_share: Annotated[float, Field(ge=0, le=1)] = 1 / 7
    """Share of the tags in the value; 0 leaves them out."""

    @model_validator(mode="after")
    def _load(self) -> Self:
        """Load the classifier when a recipe is read, not at the first sample."""
        identifier()
        return self


class Inputs(BaseModel):
    """The language wanted of a sample."""

    model_config = ConfigDict(frozen=True)

    language: Language
    """An ISO 639 code (`yo`), a BCP 47 tag (`sw-KE`), or an English name of CURE-Med's (`Yoruba`)."""


def value(rollout: Rollout, inputs: Inputs, options: Options) -> float:
    """Return the value, from 0 to 1."""
    spoken = is_in(rollout.answer, inputs.language, options.among)
    tagged = all(_occurs_once(rollout.response, tag) for tag in TAGS)
    return (1 - options.tags_share) * spoken + options.tags_share * tagged


def is_in(text: str, language: str, among: tuple[str, ...]) -> bool:
    """Return whether a text is rather in a language than in any other of *among*."""
    if not any(map(str.isalpha, text)):
        return any(map(str.isdigit, text))
    likely = dict(identifier().rank(_without_piles(text)))
    return all(likely[language] > likely[other] for other in among if other != language)


def _occurs_once(response: str, tag: str) -> bool:
    found = blocks(response, tag)
    return next(found, None) is not None and next(found, None) is None


def _without_piles(text: str) -> str:
    """Drop marks piled on one character: normalising takes the square of their number."""
    if text.isascii():
        return text
    kept, pile = [], 0
    for character in text:
        pile = pile + 1 if unicodedata.combining(character) else 0
        if pile <= MAX_MARKS:
            kept.append(character)
    return "".join(kept)


KIND = SignalKind(options=Options, inputs=Inputs, value=value)
