# SPDX-License-Identifier: GPL-2.0-only
"""Failures of another process's VM, from its ioctl to the explanation."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pyvmm.errors import LackingError, PyvmmError, SkippedError, UsageError
from pyvmm.explain import live
from pyvmm.explain.live import LiveFailure
from pyvmm.memory import PAGE_SIZE
from pyvmm.provenance import Recorder
from pyvmm.why import Host
from tests.devices import Find
from tests.other_vmm import (
    READS_MEMORY_IN_A_LOOP,
    READS_UNMAPPED_MEMORY,
    REGISTERS_UNALIGNED_MEMORY,
    WAITS,
    OtherVmm,
)
from tests.qemu_vmm import BAR, READING_PC, QemuVmm

GPA = 1 << 32

Start = Callable[[str], OtherVmm]


def record(vmm: OtherVmm | QemuVmm) -> Recorder:
    try:
        return live.record(vmm.pid)
    except (LackingError, SkippedError) as error:
        pytest.skip(f"{error}; the emulated host has it: pytest --lab")


def failure_of(vmm: OtherVmm, host: Host) -> LiveFailure:
    with record(vmm) as recorder:
        vmm.go()
        path = live.wait(vmm.pid, recorder, 60, lambda: None)
    return live.explain(vmm.pid, path, host, None)


@pytest.mark.needs_arch("aarch64")
@pytest.mark.parametrize(
    "program", [READS_UNMAPPED_MEMORY, READS_MEMORY_IN_A_LOOP], ids=["once", "loop"]
)
def test_an_access_to_unmapped_memory(other_vmm: Start, host: Host, program: str) -> None:
    """The recording may begin during ``KVM_RUN``, whose own return then is not seen."""
    vmm = other_vmm(program)
    [hva] = vmm.values
    failure = failure_of(vmm, host)
    assert (failure.path.ioctl, failure.path.result) == ("KVM_RUN", "-EFAULT")
    assert failure.path.fault is not None
    assert (failure.path.fault.gpa, failure.path.fault.access) == (GPA, "read")
    assert failure.hva == hva
    assert failure.vma is None
    assert failure.slot is not None
    assert failure.slot.hva_of(GPA) == hva
    assert failure.verdict == ("hva-unmapped",)
    [(name, why)] = failure.causes
    assert name == "hva-unmapped"
    assert f"{hva:#x}" in why


def test_a_rejected_memslot(other_vmm: Start, host: Host) -> None:
    failure = failure_of(other_vmm(REGISTERS_UNALIGNED_MEMORY), host)
    assert failure.path.ioctl == "KVM_SET_USER_MEMORY_REGION"
    assert failure.path.result == "-EINVAL"
    assert failure.slot is not None
    assert failure.slot.gpa == GPA | 1
    assert "gpa-unaligned" in failure.verdict
    assert [name for name, _ in failure.causes] == ["gpa-unaligned"]  # the facts decide
    assert [f.name for f in failure.findings if f.mark == "known"] == ["gpa-unaligned"]
    assert failure.slot.size % PAGE_SIZE == 0


def test_no_failure_in_time(other_vmm: Start) -> None:
    vmm = other_vmm(WAITS)
    with record(vmm) as recorder, pytest.raises(PyvmmError, match=r"no ioctl .* in 0\.2 s"):
        live.wait(vmm.pid, recorder, 0.2, lambda: None)


def test_a_process_that_ends(other_vmm: Start) -> None:
    vmm = other_vmm(WAITS)
    with record(vmm) as recorder:
        vmm.close()
        with pytest.raises(PyvmmError, match="ended"):
            live.wait(vmm.pid, recorder, None, lambda: None)


def test_no_such_process() -> None:
    with pytest.raises(UsageError, match="no process"):
        live.record((1 << 22) + 1)


@pytest.mark.needs_arch("aarch64")
@pytest.mark.needs_device("bochs")
def test_a_bar_of_qemu_that_was_switched_off(find: Find, host: Host, tmp_path: Path) -> None:
    vmm = QemuVmm(str(find("bochs")), tmp_path)
    try:
        with record(vmm) as recorder:
            vmm.switch_memory_off()
            path = live.wait(vmm.pid, recorder, 120, lambda: None)
        failure = live.explain(vmm.pid, path, host, None)
    finally:
        vmm.close()
    assert failure.command.startswith("qemu-system-aar")
    assert (path.ioctl, path.result) == ("KVM_RUN", "-EFAULT")
    assert path.fault is not None
    assert (path.fault.gpa, path.fault.pc, path.fault.access) == (BAR, READING_PC, "read")
    assert failure.slot is not None
    assert failure.slot.hva_of(BAR) == failure.hva
    assert failure.vma is not None
    assert "vfio-device" in failure.vma.path
    assert "vfio_pci_mmap" in str(path.decided_by)
    # A device in runtime suspend gives the same path.
    assert [name for name, _ in failure.causes] == ["device-memory-off", "device-not-ready"]
