r"""The signal `accept`: the answer is exactly a reference, as KEPO wants of hinted samples.

    value = 1 if text(response) = text(reference) for one reference, else 0

`text` is the first `<answer>(.*?)</answer>` within a line, or else the whole text, without white space
at its ends. Case counts.

Source: KEPO, arXiv 2602.00400, the exact branch of `accuracy_reward` in `reward_funcs.py` of
Corleno/KEPO. The trainer keeps a batch of hinted samples only if this is 1 for all of them
(`_rejective_sampling_with_hint`); with `needs_format` it also has the format that the paper rewards
beside it, all of `<think>.*?</think>\s*<answer>.*?</answer>`.

Ours: no symbolic comparison of mathematics. An empty answer is not accepted, whatever the reference. The format is read in linear time.
"""

from pydantic import BaseModel, ConfigDict

from medreward.signals.kind import Rollout, SignalKind

OPENING, CLOSING = "<answer>", "</answer>"
THINK, END_OF_THINKING = "<think>", "</think>"


class Options(BaseModel):
    """What else a response needs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    needs_format: bool = False
    """A response that is not a `<think>` block and an `<answer>` block is not accepted."""


class Inputs(BaseModel):
    """Nothing of `extra` is read."""

    model_config = ConfigDict(frozen=True)


def value(rollout: Rollout, _inputs: Inputs, options: Options) -> float:
    """Return 1 or 0."""
    if options.needs_format and not is_formatted(rollout.response):
        return 0.0
    said = answer_in(rollout.response)
    return float(any(said == answer_in(reference) != "" for reference in rollout.references))


def answer_in(text: str) -> str:
    """Return the text of the first answer within a line, or else the whole text, stripped."""
    for line in text.split("\n"):
        _, opening, rest = line.partition(OPENING)
        inner, closing, _ = rest.partition(CLOSING)
        if opening and closing:
            return inner.strip()
    return text.strip()


def is_formatted(response: str) -> bool:
    r"""Return what `<think>.*?</think>\s*<answer>.*?</answer>` says of the whole response."""
    if not (response.startswith(THINK) and response.endswith(CLOSING)):
        return False
    # What follows the first end of thinking that an answer follows may be anything, but its end.
    end = response.find(END_OF_THINKING, len(THINK))
    while end >= 0:
        end += len(END_OF_THINKING)
        following = response.find("<", end)
        if response.startswith(OPENING, following) and response[end:following].strip() == "":
            return following + len(OPENING) <= len(response) - len(CLOSING)
        end = response.find(END_OF_THINKING, end)
    return False


KIND = SignalKind(options=Options, inputs=Inputs, value=value, needs=("reference",))
