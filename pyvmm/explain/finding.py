# SPDX-License-Identifier: GPL-2.0-only
"""One thing that was found out, and how sure it is."""

from dataclasses import dataclass
from typing import Literal

Mark = Literal["known", "inferred", "impossible"]
"""known: seen to be so. inferred: could be so, and the deciding part cannot be seen from here.
impossible: seen not to be so, or not on this kernel and CPU."""


@dataclass(frozen=True)
class Finding:
    """`name` is for scripts, `why` a sentence for a person."""

    name: str
    mark: Mark
    why: str


def in_order(findings: list[Finding]) -> list[Finding]:
    """Known before inferred before impossible, else as they are."""
    marks: list[Mark] = ["known", "inferred", "impossible"]
    return sorted(findings, key=lambda finding: marks.index(finding.mark))
