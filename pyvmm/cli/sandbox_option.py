# SPDX-License-Identifier: GPL-2.0-only
"""The option ``--no-sandbox`` of the commands that run a guest."""

import argparse

from pyvmm import sandbox
from pyvmm.cli import output


def add_no_sandbox(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--no-sandbox``."""
    parser.add_argument(
        "--no-sandbox",
        action="store_true",
        help="do not restrict the process that runs the guest (docs/safety.md)",
    )


def wants_sandbox(args: argparse.Namespace) -> bool:
    """Return True without ``--no-sandbox``, and print what this kernel cannot restrict."""
    if args.no_sandbox:
        return False
    for restriction in sandbox.unenforced():
        output.note(f"the sandbox is incomplete: {restriction}")
    return True
