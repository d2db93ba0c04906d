# SPDX-License-Identifier: GPL-2.0-only
"""The option ``--provenance`` of several commands: record the kernel's own path to each failure."""

import argparse
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from pyvmm.cli import output
from pyvmm.errors import LackingError, SkippedError

if TYPE_CHECKING:
    from pyvmm.provenance import Recorder


class Recording(NamedTuple):
    """A recorder, or the reason why this machine cannot record; neither if not asked for."""

    recorder: "Recorder | None" = None
    skipped: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the member ``provenance`` of the command's document; none if not asked for."""
        if self.recorder:
            return {"provenance": {"left_out": self.recorder.left_out, "skipped": None}}
        return {"provenance": {"left_out": [], "skipped": self.skipped}} if self.skipped else {}


def add_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option."""
    parser.add_argument(
        "--provenance",
        action="store_true",
        help="as root, record by ftrace the kernel's own path to each failure; the cause is "
        "compared with it",
    )


@contextlib.contextmanager
def recording(wanted: bool) -> Iterator[Recording]:
    """Record this process if `wanted`, until the block ends.

    Enter it before the process opens KVM: it forks.
    """
    if not wanted:
        yield Recording()
        return
    from pyvmm.provenance import Recorder

    try:
        recorder = Recorder.of_this_process()
    except (LackingError, SkippedError) as error:
        output.note(f"--provenance is skipped: {error}")
        yield Recording(skipped=str(error))
        return
    with recorder:
        yield Recording(recorder)
