# SPDX-License-Identifier: GPL-2.0-only
"""Write the generated modules of this package from a directory of kernel headers, or check them.

::

    python -m pyvmm.uapi.generate --headers DIR [--check]

DIR is an unpacked Debian ``linux-libc-dev``, or another directory in which
`pyvmm.uapi.header_tree` finds the headers of both architectures. To add a header, add it to
`MODULES` in `pyvmm.uapi.header_set`, run this command, and add the ioctls that it reports to
`pyvmm.uapi.fds`. If its constants have a new prefix, add that to `pyvmm.uapi.names`. The tests
cover every module.
"""

import argparse
import difflib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from pyvmm.errors import PyvmmError, Status, as_command
from pyvmm.uapi import emit, header_tree
from pyvmm.uapi.fds import fds_of
from pyvmm.uapi.header_set import MODULES
from pyvmm.uapi.model import split

HERE = Path(__file__).parent


def generate(headers: Path) -> dict[str, str]:
    """Return the source of every generated module, by module name.

    Raises `HeaderError` if the headers cannot be read, and `PyvmmError` if `pyvmm.uapi.fds` lacks
    an ioctl.
    """
    from pyvmm.uapi.headers import read  # needs libclang

    sources = {}
    for module, name in MODULES.items():
        arm64, x86_64 = (
            read(header_tree.find(headers, each), name) for each in ("arm64", "x86_64")
        )
        _refuse_unknown_ioctls(name, {**arm64.ioctls, **x86_64.ioctls})
        common, arm64, x86_64 = split(arm64, x86_64)
        release = f"``{name}`` of Linux {common.version.rpartition('.')[0]}"
        sources[module] = emit.source(
            common, f"{release}: definitions that arm64 and x86-64 share."
        )
        for suffix, own in (("arm64", arm64), ("x86_64", x86_64)):
            if own.constants or own.structs or own.ioctls:
                title = f"{release}: definitions that only {suffix} has, or has differently."
                sources[f"{module}_{suffix}"] = emit.source(own, title, base=f"pyvmm.uapi.{module}")
    return sources


def _refuse_unknown_ioctls(header: str, ioctls: Iterable[str]) -> None:
    if unknown := [ioctl for ioctl in ioctls if not fds_of(ioctl)]:
        raise PyvmmError(
            f"{header} has ioctls that pyvmm/uapi/fds.py lacks: {', '.join(unknown)}; "
            "add them to the fds that implement them"
        )


@as_command()
def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status: 1 if ``--check`` found a difference."""
    parser = argparse.ArgumentParser(prog="python -m pyvmm.uapi.generate", description=__doc__)
    parser.add_argument("--headers", type=Path, required=True, metavar="DIR")
    parser.add_argument("--check", action="store_true", help="write nothing; show the differences")
    arguments = parser.parse_args(argv)
    status = Status.DONE
    for module, text in generate(arguments.headers).items():
        path = HERE / f"{module}.py"
        if not arguments.check:
            path.write_text(text)
        elif difference := list(_difference(path, text)):
            print("\n".join(difference))
            status = Status.FAILED
    return status


def _difference(path: Path, text: str) -> Iterator[str]:
    committed = path.read_text().splitlines()
    return difflib.unified_diff(committed, text.splitlines(), path.name, "regenerated", lineterm="")


if __name__ == "__main__":
    sys.exit(main())
