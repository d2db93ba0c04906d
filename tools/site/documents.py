# SPDX-License-Identifier: GPL-2.0-only
"""The documents of the checkout, at their places, with links that lead to pages of the site."""

import posixpath
import re
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
_PATTERNS = ("*.md", "docs/*.md", "examples/**/*.md")
_AT_THE_TOP = ("docs/index.md", "docs/conf.py")
_PAGES = {"pyvmm/schemas": "reference/schemas.md", "examples": "examples/index.md"}
_LINK = re.compile(r"\[(?P<text>[^]]*)\]\((?P<target>[^)#:]+)(?P<anchor>#[^)]*)?\)")


def pages() -> dict[str, str]:
    """Return the documents by their path in the source."""
    found = {}
    for path in sorted(each for pattern in _PATTERNS for each in CHECKOUT.glob(pattern)):
        name = path.relative_to(CHECKOUT).as_posix()
        if name not in _AT_THE_TOP:
            found[name] = adapt(path.read_text(), name)
    for name in _AT_THE_TOP:
        found[Path(name).name] = (CHECKOUT / name).read_text()
    return found


def adapt(text: str, name: str) -> str:
    """Return a document, with links to files that have no page as plain text.

    Raises `ValueError` for a link to a file that does not exist.
    """
    here = posixpath.dirname(name)

    def replace(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(here, match["target"]))
        if not (CHECKOUT / target).exists():
            raise ValueError(f"{name}: a link to {match['target']}, which does not exist")
        page = _page(target)
        if page is None:
            return match["text"]
        return f"[{match['text']}]({posixpath.relpath(page, here or '.')}{match['anchor'] or ''})"

    return _LINK.sub(replace, text)


def _page(target: str) -> str | None:
    """Return the page about a file of the checkout, or None."""
    if target in _PAGES:
        return _PAGES[target]
    if re.fullmatch(r"examples/\w+\.py", target):
        return f"{target.removesuffix('.py')}.md"
    if (CHECKOUT / target / "README.md").exists():
        return f"{target}/README.md"
    return target if target.endswith(".md") else None
