"""The signal `tool_trace`: the last answer of a trace, less the cost of loops and tags (Med-TIV).

    no `<answer>…</answer>`: value = -0.5 - 0.1 * (loops // 5)
    else:                    value = base - 0.05 * (loops // 10)
    base = 1 if the last answer equals a reference, or 1/4 if there are over 10 opening or over 10
           closing tags of answers; 0.1 if it equals none
    and never below -1.5

`loops` counts three phrases of a trace that goes in circles. Answers are compared without case,
punctuation, the articles a, an, the, and surplus white space.

Source: Med-TIV, arXiv 2601.20221, `compute_score` in `search_r1_qa_em.py` of PittNAIL/med-tiv.

Ours: only the response is read, while there the prompt is part of the trace, whose own example tags
count. The floor holds for a trace with an answer as well, since a range has to be declared. An answer
of articles or punctuation alone, such as the option `A` or `+`, is compared with them; there every such
answer equals every other, and an empty one. An empty answer is wrong.
"""

import re
import string

from pydantic import BaseModel, ConfigDict

from medreward.signals.blocks import blocks
from medreward.signals.kind import Rollout, SignalKind

MAX_TAGS = 10
RIGHT, RIGHT_WITH_MANY_TAGS, WRONG, NO_ANSWER, LEAST = 1.0, 0.25, 0.1, -0.5, -1.5
LOOPS = (
    re.compile(r"Upon re-(?:checking|examining|verifying)", re.IGNORECASE),
    re.compile(r"I (?:should recall|found that|realized)", re.IGNORECASE),
    re.compile(r"However, I should", re.IGNORECASE),
)
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Options(BaseModel):
    """There is nothing to set."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Inputs(BaseModel):
    """Nothing of `extra` is read."""

    model_config = ConfigDict(frozen=True)


def value(rollout: Rollout, _inputs: Inputs, _options: Options) -> float:
    """Return the value, from -1.5 to 1."""
    trace = rollout.response
    loops = sum(len(pattern.findall(trace)) for pattern in LOOPS)
    answer: str | None = None
    for answer in blocks(trace, "answer"):  # noqa: B007 - the last one counts
        pass
    if answer is None:
        return max(NO_ANSWER - 0.1 * (loops // 5), LEAST)
    base = WRONG
    said = normalised(answer)
    if said and said in {normalised(reference) for reference in rollout.references}:
        most = max(trace.count("<answer>"), trace.count("</answer>"))
        base = RIGHT_WITH_MANY_TAGS if most > MAX_TAGS else RIGHT
    return max(base - 0.05 * (loops // 10), LEAST)


def normalised(answer: str) -> str:
    """Return a text without case, punctuation, articles and surplus white space, if anything is left."""
    lower = answer.lower()
    bare = lower.translate(_NO_PUNCTUATION)
    kept = (" ".join(text.split()) for text in (_ARTICLE.sub(" ", bare), bare, lower))
    return next(filter(None, kept), "")


KIND = SignalKind(
    options=Options,
    inputs=Inputs,
    value=value,
    range=lambda _: (LEAST, RIGHT),
    needs=("reference",),
)
