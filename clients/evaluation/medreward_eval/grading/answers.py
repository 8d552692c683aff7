"""Extraction of the graded answer: a response without its thinking, or its one answer block.

Each function takes time linear in the length of any text.
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
"""Opening and closing tags of thinking: most models', Mistral's, Kimi's, MedGemma's, gpt-oss'.

Servers usually return the thinking of the last four separately; some do not.
"""
SPECIAL_TOKEN: Final = re.compile(
    r"<\|[^<>|]+\|>|<\uff5c[^<>\uff5c]+\uff5c>|</s>|<(?:eos|end_of_turn|end_of_utterance)>"
)
"""End-of-turn tokens: most models', DeepSeek's with its wide bars, Llama 2's, Gemma's, SmolVLM's."""
LONGEST_SPECIAL_TOKEN: Final = 40

_MARK = re.compile(
    "|".join(f"(?:{opening})|({closing})" for opening, closing in THINKING), re.IGNORECASE
)
_ANSWER_TAG = re.compile("<(/?)answer>", re.IGNORECASE)


def read_answer(response: str) -> str:
    """Return the graded part of a response; a response without tags is graded as a whole.

    Thinking is dropped up to its last closing tag: if the chat template opened it in the prompt,
    the response has only the end. Thinking that is never closed means that the model was cut off
    before it answered. Then the answer is empty, since considerations are not statements.

    Of the rest, a single `<answer>` block counts. If there is none, several, or one that is not
    closed, the whole rest counts, with its tags, since a choice would be a guess.
    """
    said = _after_thinking(response)
    return "" if said is None else _inside_answer(_without_special_tokens(said)).strip()


def _after_thinking(text: str) -> str | None:
    """Drop the thinking; return None if it is not closed."""
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
    """Strip end-of-turn tokens, which some servers leave in the text."""
    end = len(text.rstrip())
    while end and text[end - 1] == ">":
        start = text.rfind("<", max(0, end - LONGEST_SPECIAL_TOKEN), end)
        if start < 0 or not SPECIAL_TOKEN.fullmatch(text, start, end):
            break
        end = start
        while end and text[end - 1].isspace():
            end -= 1
    return text[:end]
