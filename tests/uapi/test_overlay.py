# SPDX-License-Identifier: GPL-2.0-only
"""Headers loaded at run time add names and leave the built-in definitions as they were.

Each test that loads does so in a process of its own, because loaded names stay.
"""

import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pyvmm.uapi import header_set, overlay
from pyvmm.uapi.builtin import builtin
from pyvmm.uapi.header_set import HeaderSet
from pyvmm.uapi.model import Header, HeaderError, IoctlDefinition, StructLayout
from pyvmm.uapi.native_arch import architecture
from tests.uapi.header_samples import Members, header, kvm_header_set, struct

RUN = builtin(architecture).all.structs["kvm_run"]
REGION: Members = {
    "slot": "u32@0",
    "flags": "u32@4",
    "guest_phys_addr": "u64@8",
    "memory_size": "u64@16",
    "userspace_addr": "u64@24",
}
KVM = header(
    {"KVM_CAP_FOO": 300, "KVM_EXIT_FOO": 77, "KVM_DEV_TYPE_MAX": 3},
    (
        struct("kvm_foo", 16, {"__a": "u32@0", "where": "ptr@8"}),
        struct("kvm_run_foo", 16, {"gpa": "u64@0", "why": "u32@8"}),
        struct("kvm_run", RUN.size, {"exit_reason": "u32@8", "foo": "kvm_run_foo@32"}),
        struct("kvm_irqfd", 32, {"fd": "u32@0", "gsi": "u32@4", "foo": "u64@24", "pad9": "u8@23"}),
        struct("kvm_userspace_memory_region2", 160, {"slot": "u32@0"}),
    ),
    (
        IoctlDefinition("KVM_SET_FOO", 0x4010AED9, "kvm_foo"),
        IoctlDefinition("KVM_FOO_IRQFD", 0x4020AEDA, "kvm_irqfd"),
        IoctlDefinition("KVM_RUN", 0xAE80, None),
    ),
)
VFIO = header(
    structs=(
        struct("vfio_device_bind_iommufd", 16, {"argsz": "u32@0", "iommufd": "s32@8"}),
        struct("vfio_device_info", 32, {"argsz": "u32@0", "foo": "u64@24"}),
    )
)
FOO = HeaderSet("7.2.12", architecture, {"kvm": KVM, "vfio": VFIO})

HOLDS = [
    "kvm.KVM_CAP_FOO == native_arch.module.KVM_CAP_FOO == 300",
    "names('KVM_CAP_')[300] == 'KVM_CAP_FOO'",
    "names('KVM_EXIT_')[77] == 'KVM_EXIT_FOO'",
    "kvm.KVM_SET_FOO == 0x4010AED9 and repr(kvm.KVM_SET_FOO) == 'KVM_SET_FOO'",
    "kvm.KVM_SET_FOO.argument is kvm.kvm_foo and kvm.KVM_SET_FOO.direction == 'write'",
    "kvm.KVM_FOO_IRQFD.argument is kvm.kvm_irqfd is old_irqfd",
    "bytes(kvm.kvm_foo(_a=1, where=2)) == bytes([1] + [0] * 7 + [2] + [0] * 7)",
    "native_arch.kvm_run is native_arch.module.kvm_run is pyvmm.kvm.vcpu.kvm_run is old_run",
    "native_arch.kvm_run.foo.offset == native_arch.kvm_run.mmio.offset == 32",  # one union
    "native_arch.kvm_run(foo=kvm.kvm_run_foo(gpa=0x1000)).mmio.phys_addr == 0x1000",
    "type(native_arch.kvm_run().foo) is kvm.kvm_run_foo",
    "native_arch.kvm_run.members == once",  # a second load has no effect
    "kvm.KVM_CAP_IRQCHIP == 0",
    "kvm.KVM_DEV_TYPE_MAX == old_bound",
    "kvm.kvm_irqfd(foo=1, resamplefd=2).foo == 1",  # a member in former padding
    "'foo' in repr(kvm.kvm_irqfd(foo=1)) and 'pad9' not in kvm.kvm_irqfd.members",
    "bytes(kvm.kvm_irqfd(foo=1)) == bytes(24) + bytes([1] + [0] * 7)",
    "kvm.kvm_userspace_memory_region2(slot=1, guest_memfd=2).guest_memfd == 2",  # older headers
    "ctypes.sizeof(vfio.vfio_device_bind_iommufd) == 24",
    "'foo' not in vfio.vfio_device_info.members",  # beyond its built-in size
    "'KVM_CAP_FOO' not in builtin('arm64').all.constants | builtin('x86_64').all.constants",
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bool]:
    """Evaluate each expression in a process that loaded FOO after pyvmm's own imports."""
    file = tmp_path_factory.mktemp("overlay") / "set.json"
    header_set.save(FOO, file)
    script = f"""
import ctypes
from pathlib import Path
import pyvmm.kvm.vcpu
from pyvmm.uapi import kvm, native_arch, overlay, vfio
from pyvmm.uapi.builtin import builtin
from pyvmm.uapi.names import names
old_run, old_irqfd, old_bound = native_arch.kvm_run, kvm.kvm_irqfd, kvm.KVM_DEV_TYPE_MAX
old_exits = names("KVM_EXIT_")
overlay.load(Path({str(file)!r}))
once = native_arch.kvm_run.members
overlay.load(Path({str(file)!r}))
print({{text: eval(text) for text in {HOLDS!r}}})
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr == ""
    found: dict[str, bool] = ast.literal_eval(done.stdout)
    return found


@pytest.mark.parametrize("text", HOLDS)
def test_loaded(text: str, results: dict[str, bool]) -> None:
    assert results[text]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (
            struct("kvm_userspace_memory_region", 40, {**REGION, "foo": "u64@32"}),
            r"kvm_userspace_memory_region is 40 bytes, and pyvmm is built for 32 bytes \(Linux 7",
        ),
        (
            struct("kvm_userspace_memory_region", 32, {**REGION, "memory_size": "u32@16"}),
            r"kvm_userspace_memory_region\.memory_size is u32 at 16, and pyvmm is built for u64",
        ),
        (
            replace(RUN, size=RUN.size + 8),
            rf"kvm_run is {RUN.size + 8} bytes, and pyvmm is built for {RUN.size} bytes",
        ),
    ],
)
@pytest.mark.parametrize("version", ["6.1.5", "7.2.12"])
def test_another_layout_is_rejected(
    changed: StructLayout, says: str, version: str, tmp_path: Path
) -> None:
    rejected(header({"KVM_CAP_FOO": 300}, (changed,), version=version), says, tmp_path)


def test_another_value_is_rejected(tmp_path: Path) -> None:
    says = "KVM_MEM_READONLY is 4, and pyvmm is built for 2 .*: keep the definition"
    rejected(header({"KVM_CAP_FOO": 300, "KVM_MEM_READONLY": 4}), says, tmp_path)


def test_another_ioctl_number_is_rejected(tmp_path: Path) -> None:
    ioctls = (IoctlDefinition("KVM_RUN", 0xAE81, None),)
    says = "KVM_RUN is 0xae81, and pyvmm is built for 0xae80"
    rejected(header({"KVM_CAP_FOO": 300}, ioctls=ioctls), says, tmp_path)


def rejected(kvm: Header, says: str, tmp_path: Path) -> None:
    """Check that these headers are rejected in one line, and that nothing of them is loaded."""
    from pyvmm.uapi import kvm as module

    header_set.save(kvm_header_set(kvm), tmp_path / "set.json")
    with pytest.raises(HeaderError, match=says) as error:
        overlay.load(tmp_path / "set.json")
    assert "\n" not in str(error.value)
    assert not hasattr(module, "KVM_CAP_FOO")


def test_a_different_constant_of_older_headers_is_ignored(tmp_path: Path) -> None:
    file = tmp_path / "set.json"
    header_set.save(kvm_header_set(header({"KVM_DIRTY_LOG_PAGE_OFFSET": 1}, version="6.1.5")), file)
    script = f"""
from pathlib import Path
from pyvmm.uapi import native_arch, overlay, kvm
before = vars(kvm).get("KVM_DIRTY_LOG_PAGE_OFFSET")
overlay.load(Path({str(file)!r}))
assert vars(kvm).get("KVM_DIRTY_LOG_PAGE_OFFSET") == before
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_headers_of_the_built_in_definitions_add_nothing(
    headers: Path, libclang: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    builtin.cache_clear()
    before = builtin(architecture)
    overlay.load(headers)
    builtin.cache_clear()
    assert builtin(architecture) == before
