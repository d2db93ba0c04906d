# SPDX-License-Identifier: GPL-2.0-only
"""Documents for KCIDB, the database of kernel CI results, with version 5.3 of its schema.

https://docs.kernelci.org/kcidb/ describes the database; the package kcidb-io has the schema.
"""

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyvmm.errors import UsageError

ORIGIN = "pyvmm"
# By the exit status of a command (`pyvmm.errors.Status`); any other is an error of the test.
STATUSES = {0: "PASS", 1: "FAIL", 3: "MISS", 4: "SKIP"}
_EXCERPT = 16384  # characters of a log_excerpt at most


@dataclass(frozen=True)
class KcidbTest:
    """The result of one test on one kernel.

    Attributes:
        kernel: the kernel's name, which stands for a build.
        path: the test's place in the tree of tests.
        status: "PASS", "FAIL", "SKIP", "ERROR" or "MISS".
        comment: the test's name for people.
        misc: what the schema has no field for: board, cause.
        log: the text of a failure.
    """

    kernel: str
    path: Sequence[str]
    status: str
    comment: str
    misc: Mapping[str, Any] = field(default_factory=dict)
    log: str = ""
    duration: float | None = None

    def to_json(self, origin: str, number: str) -> dict[str, Any]:
        """Return the test of a document."""
        names = (re.sub(r"[^a-zA-Z0-9_-]+", "_", name) for name in self.path)
        result: dict[str, Any] = {
            "id": f"{origin}:{number}",
            "origin": origin,
            "build_id": f"{origin}:{self.kernel}",
            "path": ".".join(name or "_" for name in names),
            "status": self.status,
            "comment": _text(self.comment),
            "misc": {name: value for name, value in self.misc.items() if value is not None},
        }
        if self.log:
            result["log_excerpt"] = _text(self.log)[-_EXCERPT:]
        if self.duration is not None:
            result["duration"] = self.duration
        return result


def check_origin(origin: str) -> str:
    """Return the name of a CI system. Raises `UsageError` if the schema does not allow it."""
    if not re.fullmatch("[a-z0-9_]+", origin):
        raise UsageError(f"invalid origin {origin!r}: use only a-z, 0-9 and _")
    return origin


def document(tests: Iterable[KcidbTest], origin: str = ORIGIN) -> dict[str, Any]:
    """Return a document of CI system `origin`: tests, and a build and checkout for each kernel."""
    tests, run = list(tests), uuid.uuid4().hex
    kernels = dict.fromkeys(test.kernel for test in tests)
    return {
        "version": {"major": 5, "minor": 3},
        "checkouts": [{"id": f"{origin}:{name}", "origin": origin} for name in kernels],
        "builds": [
            {
                "id": f"{origin}:{name}",
                "origin": origin,
                "checkout_id": f"{origin}:{name}",
                "comment": _text(name),
            }
            for name in kernels
        ],
        "tests": [test.to_json(origin, f"{run}-{n}") for n, test in enumerate(tests, 1)],
    }


def _text(text: str) -> str:
    return text.replace("\0", "")
