# SPDX-License-Identifier: GPL-2.0-only
"""Exits that the headers name have a name and fields without a class of their own.

Headers are loaded in a separate process, because they stay loaded.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from pyvmm.kvm.exits import Unknown, decode
from pyvmm.uapi import header_set
from pyvmm.uapi import kvm as uapi
from pyvmm.uapi.builtin import builtin
from pyvmm.uapi.native_arch import architecture
from tests.kvm.exits.run_page import run_page
from tests.uapi.header_samples import header, kvm_header_set, struct

RUN = builtin(architecture).all.structs["kvm_run"]
LOADED = header(
    {"KVM_EXIT_NEW_FOO": 77, "KVM_EXIT_PLAIN": 78, "KVM_EXIT_BARE": 79},
    (
        struct("kvm_run_new_foo", 16, {"gpa": "u64@0", "words": "u32[2]@8"}),
        struct("kvm_run", RUN.size, {"new_foo": "kvm_run_new_foo@32", "plain": "u64@32"}),
    ),
)


OTHER_ARCHITECTURES: dict[int, tuple[str, dict[str, object]]] = {
    uapi.KVM_EXIT_S390_TSCH: ("s390_tsch", {"subchannel_id": 1, "ipb": 5, "dequeued": 6}),
    uapi.KVM_EXIT_RISCV_SBI: ("riscv_sbi", {"extension_id": 1, "args": (1, 2, 3, 4, 5, 6)}),
    uapi.KVM_EXIT_PAPR_HCALL: ("papr_hcall", {"nr": 1, "args": tuple(range(9))}),
}


@pytest.mark.parametrize("reason", OTHER_ARCHITECTURES)
def test_exit_of_another_architecture_has_its_fields(reason: int) -> None:
    payload, members = OTHER_ARCHITECTURES[reason]
    exit = decode(run_page(reason, payload, **members))
    assert (type(exit).reason, exit.kind) == (reason, payload)
    assert members.items() <= vars(exit).items()


def test_exit_of_another_architecture_without_a_struct_has_the_raw_union() -> None:
    access = {"phys_addr": 1, "len": 2, "is_write": 1, "data": b"\1\2"}
    exit = decode(run_page(uapi.KVM_EXIT_LOONGARCH_IOCSR, "iocsr_io", **access))
    assert isinstance(exit, Unknown)
    assert (exit.kind, exit.number) == ("loongarch_iocsr", uapi.KVM_EXIT_LOONGARCH_IOCSR)
    assert exit.raw.startswith(b"\1\0\0\0\0\0\0\0\1\2")


LOADED_EXITS = [
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
    script = before + SCRIPT.format(file=str(file), reasons=[reason for reason, _ in LOADED_EXITS])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr == ""
    for line, (_, shown) in zip(done.stdout.splitlines(), LOADED_EXITS, strict=True):
        assert line.startswith(shown)
