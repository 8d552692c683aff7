"""Blocks between tags: what a regular expression finds, in linear time."""

import re

from hypothesis import given
from hypothesis import strategies as st

from medreward.signals.blocks import blocks

TEXTS = st.lists(st.sampled_from(["<a>", "</a>", "<a", "</", "x", "\n", ">"]), max_size=30)


@given(TEXTS.map("".join))
def test_blocks_are_what_the_expression_finds(text: str) -> None:
    """Unclosed, nested and empty ones included."""
    assert list(blocks(text, "a")) == re.findall("<a>(.*?)</a>", text, re.DOTALL)
