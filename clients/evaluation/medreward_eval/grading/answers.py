"""What of a response is graded: not the thinking, and the answer's block alone where there is one.

Each function is linear in the length of the text, whatever the text.
"""

import re
from itertools import islice
from typing import Final

THINKING: Final = (
    ("<think(?:ing)?>", "</think(?:ing)?>"),
    (r"\[THINK\]", r"\[/THINK\]"),
    ("◁think▷", "◁/think▷"),
    ("<unused94>", "<unused95>"),
    (
        r"<\|channel\|>(?:analysis|commentary)",
        r"<\|channel\|>final[^<]{0,40}(?:<\|constrain\|>[^<]{0,40})?<\|message\|>",
    ),
)
"""What opens and what closes the thinking, for most models; Mistral's, Kimi's, MedGemma's, gpt-oss'.

Servers usually keep the latter four apart themselves; they are here for those that do not.
"""
SPECIAL_TOKEN: Final = re.compile(
    r"<\|[^<>|]+\|>|<\uff5c[^<>\uff5c]+\uff5c>|</s>|<(?:eos|end_of_turn|end_of_utterance)>"
)
"""Most models', DeepSeek's with its wide bars, Llama 2's, Gemma's, SmolVLM's."""
LONGEST_SPECIAL_TOKEN: Final = 40

_MARK = re.compile(
    "|".join(f"(?:{opening})|({closing})" for opening, closing in THINKING), re.IGNORECASE
)
_ANSWER_TAG = re.compile("<(/?)answer>", re.IGNORECASE)


def read_answer(response: str) -> str:
    """Give what of a response is graded; a response that is not tagged is its own answer.

    Thinking goes, up to where it is last closed: chat templates may have opened it in the prompt,
    so that only its end is in the response. Thinking that is never closed means that the model was
    cut off before it answered. Then nothing is graded: what it considered is not what it says.

    Of what is left, the one `<answer>` block counts. Where there is none, several, or one that is
    not closed, all of it counts, tags too, since to choose would be to guess.
    """
    said = _after_thinking(response)
    return "" if said is None else _inside_answer(_without_special_tokens(said)).strip()


def _after_thinking(text: str) -> str | None:
    """Drop the thinking; None where it does not end."""
    is_open, said_from = False, 0
    for mark in _MARK.finditer(text):
        is_open = mark.lastindex is None
        if not is_open:
            said_from = mark.end()
    return None if is_open else text[said_from:]


def _inside_answer(text: str) -> str:
    match list(islice(_ANSWER_TAG.finditer(text), 3)):
        case [opening, closing] if not opening[1] and closing[1]:
            return text[opening.end() : closing.start()]
        case _:
            return text


def _without_special_tokens(text: str) -> str:
    """Drop the tokens that end a turn, which some servers leave in the text."""
    end = len(text.rstrip())
    while end and text[end - 1] == ">":
        start = text.rfind("<", max(0, end - LONGEST_SPECIAL_TOKEN), end)
        if start < 0 or not SPECIAL_TOKEN.fullmatch(text, start, end):
            break
        end = start
        while end and text[end - 1].isspace():
            end -= 1
    return text[:end]
