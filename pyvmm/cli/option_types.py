# SPDX-License-Identifier: GPL-2.0-only
"""Options that commands share, and types of options whose errors say what is wanted."""

import argparse
from collections.abc import Callable
from typing import TypeVar

from pyvmm import units

T = TypeVar("T")

_MAX_PID = (1 << 31) - 1  # of pid_t


def option_type(what: str, parse: Callable[[str], T]) -> Callable[[str], T]:
    """Return `parse` as a type for argparse: its `ValueError` becomes "… is not `what`"."""

    def convert(text: str) -> T:
        try:
            return parse(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}") from None

    return convert


def _nonempty(text: str) -> str:
    if not text:
        raise ValueError
    return text


def _seconds(text: str) -> float:
    limit = float(text)
    if not 0 < limit < float("inf"):
        raise ValueError
    return limit


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _process_id(text: str) -> int:
    pid = int(text)
    if not 0 < pid <= _MAX_PID:
        raise ValueError
    return pid


name = option_type("a name", _nonempty)
header_source = option_type("a source of headers", _nonempty)
seconds = option_type("a positive number of seconds", _seconds)
size = option_type("a size such as 512M or 2G", units.parse_size)
count = option_type("a positive number", _count)
process_id = option_type("a process ID", _process_id)


def add_iommu_mode(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--iommu-mode``."""
    from pyvmm.vfio.iommu_modes import AUTO, MODES  # most commands need nothing of vfio

    parser.add_argument(
        "--iommu-mode",
        choices=(AUTO, *MODES),
        default=AUTO,
        metavar="MODE",
        help=f"the IOMMU interface: {AUTO} (default, the best available), {', '.join(MODES)}",
    )


def add_fault_options(parser: argparse.ArgumentParser) -> None:
    """Add the options ``--on-fault`` and ``--flip``."""
    from pyvmm.faults import policy

    parser.add_argument(
        "--on-fault",
        action="append",
        default=[],
        metavar="[REGION=]POLICY",
        help="the reaction to an access that KVM cannot resolve: "
        f"{', '.join(policy.NAMES)} (default: auto, which fixes or emulates what the guest "
        "cannot notice, and stops at the rest); BAR4=emulate is for one region; repeatable",
    )
    parser.add_argument(
        "--flip",
        action="append",
        default=[],
        metavar="REGION",
        help="register anonymous memory for this BAR and then map the device over it, which KVM "
        "does not check until the guest's access",
    )
