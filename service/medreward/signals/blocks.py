"""Blocks between an opening and a closing tag, as several published rewards find them."""

from collections.abc import Iterator


def blocks(text: str, tag: str) -> Iterator[str]:
    """Yield the texts that `re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)` finds.

    It is linear in the text; the expression takes the square of a run of unclosed tags.
    """
    opening, closing = f"<{tag}>", f"</{tag}>"
    end = 0
    while (start := text.find(opening, end)) >= 0:
        start += len(opening)
        close = text.find(closing, start)
        if close < 0:
            return
        yield text[start:close]
        end = close + len(closing)
