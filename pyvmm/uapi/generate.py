# SPDX-License-Identifier: GPL-2.0-only
"""Write the generated modules of this package from a directory of kernel headers, or check them.

::

    python -m pyvmm.uapi.generate --headers DIR [--check]

DIR is an unpacked Debian ``linux-libc-dev`` of the kernel version to take, or any other directory
that `pyvmm.uapi.header_tree` knows for both architectures. To add a header, name it in
`pyvmm.uapi.header_set`, run this, and give each ioctl that it asks for a line in `pyvmm.uapi.fds`;
if its constants have a prefix of their own, `pyvmm.uapi.names` wants to know it. The tests find
it by themselves.
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
    """Return the source of every generated module, by its name.

    Raises `HeaderError` where the headers are not usable, `PyvmmError` where an ioctl's fd is not
    known.
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
        sources[module] = emit.source(common, f"{release}: what arm64 and x86-64 have in common.")
        for suffix, own in (("arm64", arm64), ("x86_64", x86_64)):
            if own.constants or own.structs or own.ioctls:
                what = f"{release}: what only {suffix} has, or has otherwise."
                sources[f"{module}_{suffix}"] = emit.source(own, what, base=f"pyvmm.uapi.{module}")
    return sources


def _refuse_unknown_ioctls(header: str, ioctls: Iterable[str]) -> None:
    if unknown := [ioctl for ioctl in ioctls if not fds_of(ioctl)]:
        raise PyvmmError(
            f"{header} has ioctls whose fd is not known: {', '.join(unknown)}; "
            "add them to pyvmm/uapi/fds.py"
        )


@as_command()
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pyvmm.uapi.generate", description=__doc__)
    parser.add_argument("--headers", type=Path, required=True, metavar="DIR")
    parser.add_argument("--check", action="store_true", help="write nothing, show what differs")
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
