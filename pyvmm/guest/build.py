# SPDX-License-Identifier: GPL-2.0-only
"""Assemble the built-in payloads: ``python -m pyvmm.guest.build [--check]``.

The repository has their binaries, so that a user needs no assembler. ``--check`` lists the binaries
that differ from their assembled source.
"""

import argparse
import sys
from pathlib import Path

from pyvmm.errors import PyvmmError, Status
from pyvmm.guest.assemble import assemble

PAYLOADS = Path(__file__).with_name("payloads")


def sources() -> list[Path]:
    """Return the sources of all built-in payloads; the parent folder is the architecture."""
    return sorted(PAYLOADS.glob("*/*.s"))


def is_fresh(source: Path) -> bool:
    """Return True if the binary next to `source` is up to date."""
    binary = source.with_suffix(".bin")
    return binary.exists() and binary.read_bytes() == assemble(source, source.parent.name)


def main(argv: list[str]) -> int:
    """Write stale binaries, or with ``--check`` only list them; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m pyvmm.guest.build", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only list stale binaries")
    check = parser.parse_args(argv).check
    stale = [source for source in sources() if not is_fresh(source)]
    for source in stale:
        print(f"{source.relative_to(PAYLOADS)} {'is stale' if check else 'assembled'}")
        if not check:
            source.with_suffix(".bin").write_bytes(assemble(source, source.parent.name))
    return Status.FAILED if check and stale else Status.DONE


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except PyvmmError as error:
        print(f"pyvmm: error: {error}", file=sys.stderr)
        sys.exit(error.status)
