"""Writing HTML and SVG: what is not markup already is escaped on its way in."""

import html
from typing import Final

VOID: Final = frozenset({"input", "wbr"})
"""Elements that have no end tag; SVG and the rest have one."""


class Markup(str):
    """Text that is markup already; only `element` and `joined` make it."""

    __slots__ = ()


Child = str | None
"""Markup stands as it is, other text is escaped, None is nothing."""


def element(name: str, *children: Child, **attributes: object) -> Markup:
    """Write an element.

    An underscore at an attribute's end is dropped and others become hyphens (`class_`, `aria_label`);
    True writes the bare name, None and False leave it out.
    """
    start = f"<{name}{''.join(_attribute(key, value) for key, value in attributes.items())}>"
    if name in VOID:
        return Markup(start)
    return Markup(f"{start}{joined(*children)}</{name}>")


def joined(*children: Child) -> Markup:
    """Put pieces one after another."""
    return Markup("".join(_escaped(child) for child in children if child is not None))


def visible(text: str) -> str:
    """Write out what cannot be seen or turns a line around, as `⟨U+202E⟩`; spaces stay."""
    if text.isprintable():
        return text
    return "".join(_shown(char) for char in text.replace("\r\n", "\n"))


def _shown(char: str) -> str:
    if char.isprintable() or char in "\n\t\u00a0\u202f\u2009":
        return char
    return f"⟨U+{ord(char):04X}⟩"


def _attribute(key: str, value: object) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{html.escape(str(value))}"'


def _escaped(child: str) -> str:
    return child if isinstance(child, Markup) else html.escape(child)
