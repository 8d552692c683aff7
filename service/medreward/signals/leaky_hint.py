"""The signal `leaky_hint`: the hint that the policy was given contains the answer (KEPO).

    value = 1 if the hint contains a reference, else 0

Source: KEPO, arXiv 2602.00400, `prompt.py` of Corleno/KEPO: version v1 of the prompt for hinted samples
has the answer itself beside the hint, and no version checks the hint, which is made from the answer.
Answers after such a hint show copying and not reasoning.

Ours: all of it. A reference is contained if its words, folded as the guards fold them, stand in the
hint in one run, or within words if the script puts no spaces between them. A single letter, as of an option, has to stand in brackets, quotes or an answer's tags,
or behind `answer`, `option` or `choice`, since `a` and `I` are words. Give it a weight of 0 to see it,
or a negative one to take rewards of leaked answers away.
"""

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from medreward.guards.normal import Normal, normal
from medreward.signals.kind import Rollout, SignalKind

_NAMED_LETTER = re.compile(
    r"\b(?:answer|option|choice)(?: is| was)?[ :=]{0,3}[(\"'*]{0,3}(?P<behind>\w)\b"
    r"|[(\[\"'](?P<within>\w)[)\]\"']"
    r"|<answer> ?(?P<tagged>\w) ?</answer>",
    re.IGNORECASE,
)

_WITHOUT_SPACES = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
)
"""Letters of scripts whose words touch each other, or the particles behind them."""


class Options(BaseModel):
    """There is nothing to set."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Inputs(BaseModel):
    """The hint of a sample."""

    model_config = ConfigDict(frozen=True)

    hint: Annotated[str, Field(max_length=65536)] = ""
    """What the policy was told beside the question; empty if it had no hint."""


def value(rollout: Rollout, inputs: Inputs, _options: Options) -> float:
    """Return 1 or 0."""
    hint = Normal(inputs.hint)
    return float(any(_contains(hint, normal(text)) for text in rollout.references))


def _contains(hint: Normal, reference: Normal) -> bool:
    if not reference.tokens:
        return False
    (first, *others) = reference.tokens
    if _WITHOUT_SPACES.search(reference.folded):
        return " ".join(reference.tokens) in " ".join(hint.tokens)
    if len(first) > 1 or others:
        return f" {' '.join(reference.tokens)} " in f" {' '.join(hint.tokens)} "
    named = _NAMED_LETTER.finditer(hint.folded)
    return any(found[found.lastgroup or 0] == first for found in named)


KIND = SignalKind(options=Options, inputs=Inputs, value=value, needs=("reference",))
