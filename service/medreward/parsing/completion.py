"""Stage 3, first half: a response is taken apart once, for every signal.

Each function is linear in the length of the text, whatever the text; the regular expressions of
the published reward are quadratic on a run of newlines or of unclosed tags.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from medreward.recipes.recipe import Tags

_SIGN = re.compile("([<>/])")
_BOX = "\\boxed{"


class Completion(NamedTuple):
    """What the policy wrote, taken apart."""

    answer: str
    """What stands inside the answer's tags, or the whole response where there are none."""
    heading: str = ""
    """What stands before the first tag, where the modality belongs."""
    well_formed: bool = False
    has_answer_tag: bool = False
    has_one_answer: bool = False
    """There is an answer between tags, and nothing begins another."""
    is_single: bool = False
    """There is one block of each kind and no more."""


def read_completion(response: str, tags: Tags) -> Completion:
    """Take a response apart; a malformed one is a value like any other."""
    if tags.answer is None or tags.answer == "\\boxed":
        return _read_unmarked(tighten(response) if tags.tighten else response, tags)
    return _read_marked(response, tags, tags.answer)


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
    # White space that the full stops hid stays, as published: ". x ." becomes " x ".
    return text.strip().strip(".")


def _read_marked(response: str, tags: Tags, answer: str) -> Completion:
    """Find the tags in one pass; what is tightened is then only what stands between them.

    A tag of the tightened text is, in the text as it came, a tag with white space in it.
    """
    marks = list(_tag_pattern(tags.thinking, answer, tags.tighten).finditer(response))
    # T and t open and close the thinking, A and a the answer: mostly "TtAa".
    order = "".join(["TtAa"[(mark.lastindex or 1) - 1] for mark in marks])
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
    """Tell whether somewhere behind the first mark the thinking ends and the answer begins."""
    seam = order.find("tA", first)
    while seam >= 0 and marks[seam].end() != marks[seam + 1].start():
        seam = order.find("tA", seam + 1)
    return seam >= 0


@lru_cache(maxsize=64)
def _tag_pattern(thinking: str | None, answer: str, is_tightened: bool) -> re.Pattern[str]:
    """Match any of the four tags, as group 1 to 4, and the white space behind it."""
    gap = r"\s*" if is_tightened else ""
    # A hyphen is all that a tag's name may hold beyond word characters, so nothing needs escaping.
    names = (f"({name})|/{gap}({name})" for name in (thinking or "(?!)", answer))
    return re.compile(rf"<{gap}(?:{'|'.join(names)}){gap}>\s*")


def _read_unmarked(text: str, tags: Tags) -> Completion:
    r"""Read a response whose answer is what follows the thinking, or the last `\boxed{…}`."""
    first_tag = f"<{tags.thinking}>" if tags.thinking else None
    start = text.find(first_tag) if first_tag else 0
    answer = _unmarked_answer(text, tags)
    return Completion(
        answer=_bare(text if answer is None else answer),
        heading=text[:start].strip() if first_tag and start >= 0 else "",
        well_formed=start >= 0 and _is_unmarked_well_formed(text[start:].strip(), tags),
        has_answer_tag=answer is not None,
        has_one_answer=answer is not None,
        is_single=answer is not None,
    )


def _unmarked_answer(text: str, tags: Tags) -> str | None:
    tail = _after_thinking(text, tags.thinking)
    return tail if tags.answer is None else _last_box(text if tail is None else tail)


def _is_unmarked_well_formed(body: str, tags: Tags) -> bool:
    if tags.answer is None:
        return bool((_after_thinking(body, tags.thinking) or "").strip())
    tail = _after_thinking(body, tags.thinking) if tags.thinking else body
    return tail is not None and _last_box(tail) is not None


def _after_thinking(text: str, thinking: str | None) -> str | None:
    """Give what follows the thinking, also where its opening tag was part of the prompt."""
    if thinking is None:
        return None
    _, closing, tail = text.partition(f"</{thinking}>")
    return tail if closing else None


def _last_box(text: str) -> str | None:
    r"""Give the content of the last `\boxed{…}`, braces balanced; None where it is not closed."""
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
