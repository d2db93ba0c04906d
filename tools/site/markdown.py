# SPDX-License-Identifier: GPL-2.0-only
"""Markdown for MyST: tables, blocks and texts whose special characters print as they are."""

import re
from collections.abc import Iterable, Sequence

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|$~^])")


def escaped(text: str) -> str:
    """Return a text without markup, except ``code`` in one or two backquotes."""
    parts = re.split(r"(``[^`]+``|`[^`]+`)", text)
    return "".join(
        f"`{part.strip('`')}`" if index % 2 else _SPECIAL.sub(r"\\\1", part)
        for index, part in enumerate(parts)
    )


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells in Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(' '.join(cell.split()) for cell in line)} |\n" for line in lines)


def block(text: str, language: str = "text") -> str:
    """Return a block of literal text."""
    return f"````{language}\n{text.rstrip()}\n````\n"
