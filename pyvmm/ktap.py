# SPDX-License-Identifier: GPL-2.0-only
"""Lines of KTAP, as in Documentation/dev-tools/ktap.rst, with the totals line of kselftest."""

from collections.abc import Iterable

VERSION = "KTAP version 1"
INDENT = "  "
_KINDS = ("pass", "fail", "xfail", "xpass", "skip", "error")


def result(passed: bool, number: int, name: str, directive: str = "", reason: str = "") -> str:
    """Return the result line of a test; `reason` follows a directive such as "SKIP"."""
    verdict = "ok" if passed else "not ok"
    told = f" # {directive} {' '.join(reason.split())}" if directive else ""
    # A "#" in the name would start a directive.
    return f"{verdict} {number} {name.replace('#', '-')}{told}".rstrip()


def diagnostics(text: str) -> list[str]:
    """Return the diagnostic lines of a text."""
    return [f"# {line}".rstrip() for line in text.splitlines()]


def totals(kinds: Iterable[str]) -> str:
    """Return the totals line; `kinds` has "pass", "fail", "skip" or another for each result."""
    counts = dict.fromkeys(_KINDS, 0)
    for kind in kinds:
        counts[kind] += 1
    return f"# Totals: {' '.join(f'{kind}:{count}' for kind, count in counts.items())}"
