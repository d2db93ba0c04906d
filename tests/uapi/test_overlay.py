# SPDX-License-Identifier: GPL-2.0-only
"""Headers loaded at run time are there by name, and leave what pyvmm is made of as it was.

It is done in a process of its own: what is loaded stays loaded.
"""

import ast
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pyvmm.uapi import overlay, sets
from pyvmm.uapi.builtin import builtin
from pyvmm.uapi.model import HeaderError, Ioctl, Struct
from pyvmm.uapi.native_arch import architecture
from pyvmm.uapi.sets import HeaderSet
from tests.uapi.made import Members, header, header_set, struct

RUN = builtin(architecture).all.structs["kvm_run"]
REGION: Members = {
    "slot": "u32@0",
    "flags": "u32@4",
    "guest_phys_addr": "u64@8",
    "memory_size": "u64@16",
    "userspace_addr": "u64@24",
}
KVM = header(
    {"KVM_CAP_FOO": 300, "KVM_EXIT_FOO": 77, "KVM_MEM_READONLY": 4},
    (
        struct("kvm_foo", 16, {"__a": "u32@0", "where": "ptr@8"}),
        struct("kvm_run_foo", 16, {"gpa": "u64@0", "why": "u32@8"}),
        struct("kvm_run", RUN.size, {"exit_reason": "u32@8", "foo": "kvm_run_foo@32"}),
        struct("kvm_irqfd", 32, {"fd": "u32@0", "gsi": "u32@4", "foo": "u64@24"}),
        struct("kvm_userspace_memory_region2", 160, {"slot": "u32@0"}),
        struct("kvm_s390_keyop", 64, {"foo": "u64@8"}),
    ),
    (Ioctl("KVM_SET_FOO", 0x4010AED9, "kvm_foo"), Ioctl("KVM_RUN", 0xAE80, None)),
)
VFIO = header(
    structs=(struct("vfio_device_bind_iommufd", 16, {"argsz": "u32@0", "iommufd": "s32@8"}),)
)
FOO = HeaderSet("7.2.12", architecture, {"kvm": KVM, "vfio": VFIO})

HOLDS = [
    "kvm.KVM_CAP_FOO == native_arch.module.KVM_CAP_FOO == 300",
    "names('KVM_CAP_')[300] == 'KVM_CAP_FOO'",
    "names('KVM_EXIT_')[77] == 'KVM_EXIT_FOO'",
    "kvm.KVM_SET_FOO == 0x4010AED9 and repr(kvm.KVM_SET_FOO) == 'KVM_SET_FOO'",
    "kvm.KVM_SET_FOO.argument is kvm.kvm_foo and kvm.KVM_SET_FOO.direction == 'write'",
    "bytes(kvm.kvm_foo(_a=1, where=2)) == bytes([1] + [0] * 7 + [2] + [0] * 7)",
    "kvm.KVM_MEM_READONLY == 4",  # a number that changed
    "pyvmm.kvm.memslots.KVM_MEM_READONLY == 4",  # where it was imported to before
    "native_arch.kvm_run is native_arch.module.kvm_run is pyvmm.kvm.vcpu.kvm_run is not old_run",
    "native_arch.kvm_run.foo.offset == native_arch.kvm_run.mmio.offset == 32",  # nothing is lost
    "native_arch.kvm_run.members == once.members",  # loading twice is loading once
    "kvm.KVM_CAP_IRQCHIP == 0",
    # Room that was padding, an older kernel's struct, and one that no code of pyvmm's uses.
    "kvm.kvm_irqfd(foo=1, resamplefd=2).foo == 1",
    "kvm.kvm_userspace_memory_region2(slot=1, guest_memfd=2).guest_memfd == 2",
    "bytes(kvm.kvm_s390_keyop(foo=1)) == bytes(8) + bytes([1]) + bytes(55)",
    "ctypes.sizeof(vfio.vfio_device_bind_iommufd) == 24",  # it says its size
]


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bool]:
    """What holds in a process where FOO was loaded over modules that were imported before."""
    file = tmp_path_factory.mktemp("overlay") / "set.json"
    sets.save(FOO, file)
    script = f"""
import ctypes
from pathlib import Path
import pyvmm.kvm.vcpu, pyvmm.kvm.memslots
from pyvmm.uapi import kvm, native_arch, overlay, vfio
from pyvmm.uapi.names import names
old_run, old_exits = native_arch.kvm_run, names("KVM_EXIT_")
overlay.load(Path({str(file)!r}))
once = native_arch.kvm_run
overlay.load(Path({str(file)!r}))
print({{text: eval(text) for text in {HOLDS!r}}})
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr == ""
    found: dict[str, bool] = ast.literal_eval(done.stdout)
    return found


@pytest.mark.parametrize("text", HOLDS)
def test_what_is_loaded(text: str, held: dict[str, bool]) -> None:
    assert held[text]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (
            struct("kvm_userspace_memory_region", 40, {**REGION, "foo": "u64@32"}),
            r"kvm_userspace_memory_region is 40 bytes, and pyvmm/\S+\.py is made for 32 bytes",
        ),
        (
            struct("kvm_userspace_memory_region", 32, {**REGION, "memory_size": "u32@16"}),
            r"kvm_userspace_memory_region\.memory_size is u32 at 16, and pyvmm/\S+ is made for u64",
        ),
        (
            replace(RUN, size=RUN.size + 8),
            rf"kvm_run is {RUN.size + 8} bytes, and pyvmm/\S+\.py is made for {RUN.size} bytes",
        ),
    ],
)
def test_a_layout_that_pyvmm_uses_is_not_pulled_away(
    changed: Struct, says: str, tmp_path: Path
) -> None:
    sets.save(header_set(header({"KVM_CAP_FOO": 300}, (changed,))), tmp_path / "set.json")
    before = builtin(architecture)
    with pytest.raises(HeaderError, match=says):
        overlay.load(tmp_path / "set.json")
    assert builtin(architecture) == before  # nor is anything else of them there


def test_the_headers_of_the_built_in_definitions_change_nothing(
    headers: Path, libclang: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = builtin(architecture)
    start = time.process_time()
    overlay.load(headers)
    assert time.process_time() - start <= 5  # seconds, with nothing kept
    assert builtin(architecture) == before


@pytest.mark.skipif(
    "PYVMM_LAB" in os.environ, reason="an emulated CPU is slow: run it on a machine"
)
def test_what_is_kept_loads_in_a_tenth_of_a_second(tmp_path: Path) -> None:
    file = tmp_path / "set.json"
    sets.save(builtin(architecture), file)
    start = time.process_time()
    overlay.load(file)
    assert time.process_time() - start <= 0.1
