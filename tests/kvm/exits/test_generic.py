# SPDX-License-Identifier: GPL-2.0-only
"""An exit of headers that were loaded has their name and fields.

It is done in a process of its own: what is loaded stays loaded.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from pyvmm.uapi import header_set
from pyvmm.uapi.builtin import builtin
from pyvmm.uapi.native_arch import architecture
from tests.uapi.header_samples import header, kvm_header_set, struct

RUN = builtin(architecture).all.structs["kvm_run"]
LOADED = header(
    {"KVM_EXIT_NEW_FOO": 77, "KVM_EXIT_PLAIN": 78, "KVM_EXIT_BARE": 79},
    (
        struct("kvm_run_new_foo", 16, {"gpa": "u64@0", "words": "u32[2]@8"}),
        struct("kvm_run", RUN.size, {"new_foo": "kvm_run_new_foo@32", "plain": "u64@32"}),
    ),
)


EXITS = [
    (77, "new_foo 77 NewFoo(gpa=4096, words=(7, 0))"),
    (78, "plain 78 Plain(number=78, raw=b'"),
    (79, "bare 79 Bare(number=79, raw=b'"),
    (80, "unknown 0 Unknown(number=80, raw=b'"),
    (6, "mmio 6 Mmio(gpa=4096, "),
]
SCRIPT = """
from pathlib import Path
from pyvmm.uapi import overlay
overlay.load(Path({file!r}))
from pyvmm.kvm import exits
for reason in {reasons}:
    run = bytearray(8192)
    run[8], run[33], run[40] = reason, 0x10, 7
    exit, again = (exits.decode(memoryview(run)) for _ in range(2))
    assert exit == again
    print(exit.kind, type(exit).reason, exit)
"""


@pytest.mark.parametrize(
    "before", ["", "from pyvmm.kvm import exits"], ids=["loaded first", "loaded late"]
)
def test_exits(before: str, tmp_path: Path) -> None:
    file = tmp_path / "set.json"
    header_set.save(kvm_header_set(LOADED), file)
    script = before + SCRIPT.format(file=str(file), reasons=[reason for reason, _ in EXITS])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr == ""
    for line, (_, shown) in zip(done.stdout.splitlines(), EXITS, strict=True):
        assert line.startswith(shown)
