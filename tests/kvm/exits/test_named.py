# SPDX-License-Identifier: GPL-2.0-only
"""An exit of headers that were loaded has their name and fields.

Each case is a process of its own: what is loaded stays loaded.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from pyvmm.uapi import sets
from pyvmm.uapi.builtin import builtin
from pyvmm.uapi.native import architecture
from tests.uapi.made import header, header_set, struct

RUN = builtin(architecture).all.structs["kvm_run"]
LOADED = header(
    {"KVM_EXIT_NEW_FOO": 77, "KVM_EXIT_PLAIN": 78, "KVM_EXIT_BARE": 79},
    (
        struct("kvm_run_new_foo", 16, {"gpa": "u64@0", "words": "u32[2]@8"}),
        struct("kvm_run", RUN.size, {"new_foo": "kvm_run_new_foo@32", "plain": "u64@32"}),
    ),
)


@pytest.mark.parametrize(
    ("reason", "shown", "kind"),
    [
        (77, "NewFoo(gpa=4096, words=(7, 0))", "new_foo"),
        (78, "Plain(number=78, raw=b'", "plain"),
        (79, "Bare(number=79, raw=b'", "bare"),
        (80, "Unknown(number=80, raw=b'", "unknown"),
        (6, "Mmio(gpa=4096, ", "mmio"),
    ],
)
@pytest.mark.parametrize("late", [False, True], ids=["loaded first", "loaded late"])
def test_exits(reason: int, shown: str, kind: str, late: bool, tmp_path: Path) -> None:
    sets.save(header_set(LOADED), tmp_path / "set.json")
    lines = [
        "from pathlib import Path",
        "from pyvmm.uapi import overlay",
        f"overlay.load(Path({str(tmp_path / 'set.json')!r}))",
        "from pyvmm.kvm import exits",
        f"run = bytearray(8192); run[8] = {reason}; run[33] = 0x10; run[40] = 7",
        "exit, again = (exits.decode(memoryview(run)) for _ in range(2))",
        "assert exit == again",
        "print(exit.kind, type(exit).reason, exit)",
    ]
    if late:
        lines.insert(0, "from pyvmm.kvm import exits; exits.decode(memoryview(bytes(8192)))")
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.startswith(f"{kind} {reason if reason != 80 else 0} {shown}")
