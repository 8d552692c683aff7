"""HTML and SVG elements; every text that is not markup is escaped."""

import html


class Markup(str):
    """A text with its markup, made by `tag` and `join` only."""

    __slots__ = ()


Inside = str | Markup | None


def tag(name: str, *inside: Inside, **attributes: object) -> Markup:
    """Build an element without its attributes that are None.

    `class_` becomes `class`, and `stroke_width` becomes `stroke-width`.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{given}>{join(*inside)}</{name}>")


def join(*parts: Inside) -> Markup:
    """Concatenate pieces, and escape those that are text."""
    return Markup("".join(_escaped(part) for part in parts if part is not None))


def visible(text: str) -> str:
    r"""Escape invisible characters and those that reverse a line (`\u200b`, `\u202e`)."""
    return "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode()
        for char in text
    )


def _escaped(part: str | Markup) -> str:
    return part if isinstance(part, Markup) else html.escape(part)
