# SPDX-License-Identifier: GPL-2.0-only
"""A page for each cause, with the results of CAUSES.md: on which kernels and CPUs it was seen."""

import re
from collections import defaultdict
from collections.abc import Iterator

from pyvmm.explain.catalogue import Cause, all_causes
from tools.site.documents import CHECKOUT
from tools.site.markdown import escaped, table

_INTRODUCTION = """\
# Causes

Each cause is a condition under which KVM fails an ioctl, or an access of the guest. Its name is
what `run`, `provoke`, `trace` and the JSON documents print, and `pyvmm explain NAME` shows its page
in a terminal. [CAUSES.md](../CAUSES.md) has the whole matrix.

"""
_SEEN = ("provoked by", "the kernel gave", "fix", "the guest", "on")


def pages() -> dict[str, str]:
    """Return the pages by their path in the source."""
    seen = _seen()
    causes = all_causes()
    rows: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for cause in causes:
        for place in cause.places:
            link, rule = f"[{cause.name}]({cause.name}.md)", escaped(place.condition.rule)
            rows[place.ioctl].append((link, ", ".join(place.errnos) or "an exit", rule))
    index = _INTRODUCTION
    for ioctl, found in rows.items():
        index += f"## {ioctl}\n\n{table(('cause', 'errno', 'if'), found)}\n"
    index += "```{toctree}\n:hidden:\n\n" + "".join(f"{c.name}\n" for c in causes) + "```\n"
    return {
        "causes/index.md": index,
        **{
            f"causes/{cause.name}.md": "\n".join(_page(cause, seen[cause.name])) for cause in causes
        },
    }


def _page(cause: Cause, seen: list[tuple[str, ...]]) -> Iterator[str]:
    yield f"# {cause.name}\n"
    for place in cause.places:
        condition = place.condition
        yield f"## {place.outcome}\n"
        yield f"If {escaped(condition.rule)}.\n"
        yield f"* Decided by: {escaped(condition.decided_by)}"
        yield f"* Architecture: {escaped(condition.arch or 'arm64 and x86_64')}"
        yield (
            "* The kernel's own path (`--provenance`): " + escaped("; ".join(place.evidence)) + "\n"
        )
    yield "## What helps\n"
    for remedy in cause.remedies:
        yield f"* {escaped(remedy[0].upper() + remedy[1:])}."
    if not cause.remedies:
        yield "pyvmm has no remedy: the VMM must avoid the condition."
    yield "\n## What provokes it\n"
    if cause.unprovoked:
        yield f"Nothing: {escaped(cause.unprovoked)}.\n"
    for each in cause.provocations:
        yield f"* `pyvmm provoke {each.name}`: {escaped(each.how)}"
    if seen:
        yield "\n## Where it was seen\n"
        yield table(_SEEN, seen)


def _seen() -> dict[str, list[tuple[str, ...]]]:
    """Return the rows of the first table of CAUSES.md by cause: a row without it has none."""
    text = (CHECKOUT / "CAUSES.md").read_text()
    lines = re.findall(r"^\| (.*) \|$", text.partition("## The kernel's own path")[0], re.MULTILINE)
    rows = defaultdict(list)
    provoked_by = ""
    for line in lines:
        cells = re.split(r"(?<!\\) \| ", line)
        if len(cells) != 6 or cells[0].strip() in ("provoked by", "---"):
            continue
        provoked_by = cells[0].strip() or provoked_by
        _, gave, cause, *rest = (escaped(cell.strip()) for cell in cells)
        if name := re.match(r"[a-z][a-z0-9-]*", cause):
            rows[name[0]].append((escaped(provoked_by), gave, *rest))
    return rows
