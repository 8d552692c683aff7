"""Stage 3, first half: a response is taken apart once, for every signal.

Each function is linear in the length of the text, whatever the text; the regular expressions of
the published reward are quadratic on a run of newlines or of unclosed tags.
"""

import re
from dataclasses import dataclass

from medreward.recipe import Tags

_SIGN = re.compile("([<>/])")
_BOX = "\\boxed{"


@dataclass(frozen=True, slots=True)
class Completion:
    """What the policy wrote, taken apart."""

    answer: str
    """What stands inside the answer's tags, or the whole response where there are none."""
    thinking: str = ""
    heading: str = ""
    """What stands before the first tag, where the modality belongs."""
    well_formed: bool = False
    has_answer_tag: bool = False


def read_completion(response: str, tags: Tags) -> Completion:
    """Take a response apart; a malformed one is a value like any other."""
    text = tighten(response) if tags.tighten else response
    answer = _find_answer(text, tags)
    return Completion(
        answer=_bare(text if answer is None else answer),
        thinking=_thinking(text, tags),
        heading=_heading(text, tags),
        well_formed=_is_well_formed(text, tags),
        has_answer_tag=answer is not None,
    )


def tighten(text: str) -> str:
    r"""Remove white space around `<`, `>` and `/`: what `re.sub(r"\s*(<|>|/)\s*", r"\1")` gives."""
    pieces = _SIGN.split(text)
    if len(pieces) == 1:
        return text
    pieces[0] = pieces[0].rstrip()
    pieces[-1] = pieces[-1].lstrip()
    pieces[2:-1:2] = [piece.strip() for piece in pieces[2:-1:2]]
    return "".join(pieces)


def _bare(text: str) -> str:
    # White space that the full stops hid stays, as published: ". x ." becomes " x ".
    return text.strip().strip(".")


def _between(text: str, opening: str, closing: str) -> str | None:
    """Give what stands between the first *opening* and the next *closing*.

    Where the first *opening* is never closed, no later one is either, so one look is enough.
    """
    start = text.find(opening)
    if start < 0:
        return None
    start += len(opening)
    end = text.find(closing, start)
    return None if end < 0 else text[start:end]


def _thinking(text: str, tags: Tags) -> str:
    return (_between(text, *_pair(tags.thinking)) or "") if tags.thinking else ""


def _find_answer(text: str, tags: Tags) -> str | None:
    if tags.answer is None:
        return _after_thinking(text, tags.thinking)
    if tags.answer == "\\boxed":
        tail = _after_thinking(text, tags.thinking)
        return _last_box(text if tail is None else tail)
    return _between(text, *_pair(tags.answer))


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


def _first_tag(tags: Tags) -> str | None:
    if tags.thinking is not None:
        return f"<{tags.thinking}>"
    if tags.answer is not None and tags.answer != "\\boxed":
        return f"<{tags.answer}>"
    return None


def _heading(text: str, tags: Tags) -> str:
    first_tag = _first_tag(tags)
    end = text.find(first_tag) if first_tag is not None else -1
    return text[:end].strip() if end >= 0 else ""


def _is_well_formed(text: str, tags: Tags) -> bool:
    """Tell whether, from the first tag on, the parts stand in order and nothing stands outside."""
    first_tag = _first_tag(tags)
    start = text.find(first_tag) if first_tag is not None else 0
    if start < 0:
        return False
    body = text[start:].strip()
    if tags.answer is None:
        return bool((_after_thinking(body, tags.thinking) or "").strip())
    if tags.answer == "\\boxed":
        tail = _after_thinking(body, tags.thinking) if tags.thinking else body
        return tail is not None and _last_box(tail) is not None
    return _answer_ends_body(body, tags.thinking, tags.answer)


def _pair(name: str) -> tuple[str, str]:
    return f"<{name}>", f"</{name}>"


def _answer_ends_body(body: str, thinking: str | None, answer: str) -> bool:
    r"""Match `<thinking>.*</thinking>\s*<answer>.*</answer>` against the whole of *body*."""
    if not body.endswith(f"</{answer}>"):
        return False
    if thinking is None:
        return len(body) >= len(f"<{answer}></{answer}>")
    # A hyphen is all that a tag's name may hold beyond word characters, so nothing needs escaping.
    seam = re.compile(rf"</{thinking}>\s*<{answer}>").search(body, len(f"<{thinking}>"))
    return seam is not None and seam.end() <= len(body) - len(f"</{answer}>")
