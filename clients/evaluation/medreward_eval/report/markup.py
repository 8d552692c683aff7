"""HTML and SVG elements; text that is not `Markup` is escaped when it enters one."""

import html
from typing import Final

VOID: Final = frozenset({"input", "wbr"})
"""HTML elements without an end tag."""


class Markup(str):
    """A string of finished markup; only `element` and `joined` create it."""

    __slots__ = ()


Child = str | None
"""A child of an element: Markup is inserted unchanged, other text escaped, None left out."""


def element(name: str, *children: Child, **attributes: object) -> Markup:
    """Build an element.

    An underscore at an attribute's end is dropped and others become hyphens (`class_`, `aria_label`);
    True writes the bare name, None and False leave it out.
    """
    start = f"<{name}{''.join(_attribute(key, value) for key, value in attributes.items())}>"
    if name in VOID:
        return Markup(start)
    return Markup(f"{start}{joined(*children)}</{name}>")


def joined(*children: Child) -> Markup:
    """Concatenate children."""
    return Markup("".join(_escaped(child) for child in children if child is not None))


def visible(text: str) -> str:
    """Replace invisible and bidirectional characters by `⟨U+202E⟩` and the like; spaces stay."""
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
