"""A response, parsed once for all signals.

Each function is linear in the length of any text; the regular expressions of the published reward
are quadratic on a run of newlines or of unclosed tags.
"""

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from medreward.recipes.recipe import Tags

_SIGN = re.compile("([<>/])")
_BOX = "\\boxed{"

_END_TOKEN = re.compile(
    r"(?:<\|(?:im_end|endoftext|eot_id|end|return|end_of_text)\|>|</s>|<(?:eos|end_of_turn)>"
    r"|<\uff5cend\u2581of\u2581sentence\uff5c>|\[EOS\])\s*\Z"
)
"""Matches a token with which chat templates end a turn, at the end of a response."""
MAX_END_TOKENS = 4
END_CHARACTERS = 200
"""Characters at the end of a response in which an end token is searched."""

_FENCE = re.compile(r"```(?:\w{0,12}[ \t]*\n)?(?P<inner>(?:(?!```).)*)```", re.DOTALL)


CLOSING = 2
"""Group of the closing tag of the thinking, in `_tag_pattern`."""


class Completion(NamedTuple):
    """The parts of a policy's response."""

    answer: str
    """Text inside the answer's tags; without such tags, the whole response."""
    heading: str = ""
    """Text before the first tag, the place of the modality."""
    well_formed: bool = False
    has_answer_tag: bool = False
    has_one_answer: bool = False
    """True if there is an answer between tags and no second opening tag."""
    is_single: bool = False
    """True if there is exactly one block of each kind."""


def read_completion(response: str, tags: Tags, *, as_meant: bool = False) -> Completion:
    """Parse a response; a malformed one is a normal result, not an error.

    By default it is read to the letter, as the published reward does. If it is read *as meant*,
    tags within closed thinking are part of the thinking, a tag may be in any case and have white
    space inside, end tokens behind the response are ignored, and a code fence around the whole
    answer and a JSON object with the one key `answer` are unwrapped.
    """
    if as_meant and not response.endswith(f"</{tags.answer}>"):
        response = _without_end_tokens(response)
    if tags.answer is None or tags.answer == "\\boxed":
        read = _read_unmarked(tighten(response) if tags.tighten else response, tags)
    else:
        read = _read_marked(response, tags, tags.answer, as_meant=as_meant)
    return read._replace(answer=unwrapped(read.answer)) if as_meant else read


def read_thinking(response: str, tags: Tags, *, as_meant: bool = False) -> str:
    """Return the text of the first closed thinking, stripped; empty if there is none.

    Its opening tag may have been part of the prompt.
    """
    if tags.thinking is None:
        return ""
    pattern = _tag_pattern(tags.thinking, tags.thinking, tags.tighten or as_meant, as_meant)
    start = 0
    for mark in pattern.finditer(response):
        if mark.lastindex == CLOSING:
            return response[start : mark.start()].strip()
        start = start or mark.end()
    return ""


def _without_end_tokens(response: str) -> str:
    for _ in range(MAX_END_TOKENS):
        start = max(0, len(response) - END_CHARACTERS)
        found = _END_TOKEN.search(response, start)
        if found is None:
            break
        response = response[: found.start()].rstrip()
    return response


def unwrapped(answer: str) -> str:
    """Return the text within a code fence around the whole answer, or within `{"answer": …}`."""
    if answer.startswith("```") and (fence := _FENCE.fullmatch(answer)):
        answer = _bare(fence["inner"])
    if answer.startswith("{") and answer.endswith("}"):
        try:
            read = json.loads(answer, object_pairs_hook=tuple)
        except (ValueError, RecursionError):
            return answer
        # A second key is what a forged verdict needs, so only this one object is unwrapped.
        if len(read) == 1 and read[0][0] == "answer" and isinstance(read[0][1], str):
            return _bare(read[0][1])
    return answer


def tighten(text: str) -> str:
    r"""Remove white space around `<`, `>` and `/`: what `re.sub(r"\s*(<|>|/)\s*", r"\1")` gives."""
    if not ("<" in text or ">" in text or "/" in text):
        return text
    pieces = _SIGN.split(text)
    pieces[0] = pieces[0].rstrip()
    pieces[-1] = pieces[-1].lstrip()
    pieces[2:-1:2] = [piece.strip() for piece in pieces[2:-1:2]]
    return "".join(pieces)


def _bare(text: str) -> str:
    # White space inside the full stops stays, as in the published reward:
    # ". x ." becomes " x ".
    return text.strip().strip(".")


def _read_marked(response: str, tags: Tags, answer: str, *, as_meant: bool) -> Completion:
    """Find the tags in one pass over the original text, and tighten only the parts between them.

    The pattern allows white space inside a tag, so it finds the tags of the tightened text.
    """
    pattern = _tag_pattern(tags.thinking, answer, tags.tighten or as_meant, as_meant)
    marks = list(pattern.finditer(response))
    # T and t open and close the thinking, A and a the answer: mostly "TtAa".
    order = "".join(["TtAa"[(mark.lastindex or 1) - 1] for mark in marks])
    if as_meant and (end := order.find("t")) > 0:
        # The opening tag of the thinking may have been part of the prompt: it then has no place.
        start = order.find("T", 0, end) + 1
        order = order[:start] + order[end:]
        del marks[start:end]
    first = order.find("T" if tags.thinking else "A")
    opening = order.find("A")
    closing = order.find("a", opening) if opening >= 0 else -1
    inner = response if closing < 0 else response[marks[opening].end() : marks[closing].start()]
    heading = "" if first < 0 else response[: marks[first].start()]
    return Completion(
        answer=_bare(tighten(inner) if tags.tighten else inner),
        heading=(tighten(heading) if tags.tighten else heading).strip(),
        well_formed=first >= 0
        and order[-1] == "a"
        and marks[-1].end() == len(response)
        and (tags.thinking is None or _has_seam(order, marks, first)),
        has_answer_tag=closing >= 0,
        has_one_answer=closing >= 0 and order.count("A") == 1,
        is_single=order == ("TtAa" if tags.thinking else "Aa"),
    )


def _has_seam(order: str, marks: Sequence[re.Match[str]], first: int) -> bool:
    """Return whether, after mark *first*, an answer opens directly after the thinking closes."""
    seam = order.find("tA", first)
    while seam >= 0 and marks[seam].end() != marks[seam + 1].start():
        seam = order.find("tA", seam + 1)
    return seam >= 0


@lru_cache(maxsize=64)
def _tag_pattern(
    thinking: str | None, answer: str, has_gaps: bool, in_any_case: bool
) -> re.Pattern[str]:
    """Compile a pattern for the four tags, as groups 1 to 4, and the white space after each."""
    gap = r"\s*" if has_gaps else ""
    # A hyphen is all that a tag's name may hold beyond word characters, so nothing needs escaping.
    names = (f"({name})|/{gap}({name})" for name in (thinking or "(?!)", answer))
    flags = re.IGNORECASE if in_any_case else 0
    return re.compile(rf"<{gap}(?:{'|'.join(names)}){gap}>\s*", flags)


def _read_unmarked(text: str, tags: Tags) -> Completion:
    r"""Parse a response whose answer follows the thinking or is the last `\boxed{…}`."""
    first_tag = f"<{tags.thinking}>" if tags.thinking else None
    start = text.find(first_tag) if first_tag else 0
    tail = _after_thinking(text, tags.thinking)
    answer = tail if tags.answer is None else _last_box(text if tail is None else tail)
    return Completion(
        answer=_bare(text if answer is None else answer),
        heading=text[:start].strip() if first_tag and start >= 0 else "",
        well_formed=start >= 0 and _is_unmarked_well_formed(text[start:].strip(), tags),
        has_answer_tag=answer is not None,
        has_one_answer=answer is not None,
        is_single=answer is not None,
    )


def _is_unmarked_well_formed(body: str, tags: Tags) -> bool:
    if tags.answer is None:
        return bool((_after_thinking(body, tags.thinking) or "").strip())
    tail = _after_thinking(body, tags.thinking) if tags.thinking else body
    return tail is not None and _last_box(tail) is not None


def _after_thinking(text: str, thinking: str | None) -> str | None:
    """Return the text after the thinking, even if its opening tag was part of the prompt."""
    if thinking is None:
        return None
    _, closing, tail = text.partition(f"</{thinking}>")
    return tail if closing else None


def _last_box(text: str) -> str | None:
    r"""Return the content of the last `\boxed{…}`, with balanced braces; None if it is unclosed."""
    start = text.rfind(_BOX)
    if start < 0:
        return None
    start += len(_BOX)
    depth = 1
    for match in re.finditer("[{}]", text[start:]):
        depth += 1 if match.group() == "{" else -1
        if depth == 0:
            return text[start : start + match.start()]
    return None
