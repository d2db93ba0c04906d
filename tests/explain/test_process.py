# SPDX-License-Identifier: GPL-2.0-only
import errno
import os

import pytest

from pyvmm.errors import UsageError
from pyvmm.explain.conditions import of_run
from pyvmm.explain.process import inspect, part_findings, slot_parts
from pyvmm.kvm import System
from pyvmm.machine import ENTRY, RAM_BASE, Machine
from pyvmm.machine.spinning_guest import spinning_guest
from pyvmm.memory import PAGE_SIZE, PROT_NONE, PROT_READ, Mapping
from pyvmm.passthrough import AssignedDevice
from pyvmm.testing.needs import find_devices
from pyvmm.uapi.kvm import KVM_MEM_READONLY
from pyvmm.why import Host, Slot
from tests.process import as_nobody

GPA = 0x4000_0000
PID = os.getpid()


def test_a_vmm_with_known_memslots(host: Host, kvm: System) -> None:
    with Machine(kvm) as machine:
        [slot] = machine.vm.memslots
        found = inspect(PID, host, [slot])
    assert found.descriptors["kvm-vm"] >= 1
    assert found.descriptors["kvm-vcpu"] >= 1
    assert found.slots_known
    assert {part.slot for part, _ in found.parts} == {slot}
    assert sum(part.size for part, _ in found.parts) == slot.size


def test_without_memslots_guest_memory_is_guessed(host: Host, kvm: System) -> None:
    with Machine(kvm, ram_size=32 << 20) as machine:
        found = inspect(PID, host, None)
        ram = machine.ram.hva
    assert not found.slots_known
    assert any(p.hva <= ram < p.hva + p.size and p.slot is None for p, _ in found.parts)


def test_no_such_process(host: Host) -> None:
    with pytest.raises(UsageError, match="there is no process 4194305"):
        inspect(4194305, host, None)


def test_a_process_of_another_user(host: Host) -> None:
    def failure() -> str:
        try:
            inspect(PID, host, None)
        except Exception as error:
            return str(error)
        return "inspected"

    expected = f"permission denied for process {PID}: run as its user, or as root"
    assert as_nobody(failure) == expected


@pytest.mark.needs_arch("aarch64")
def test_stage_2_from_debugfs(host: Host, kvm: System) -> None:
    with Machine(kvm) as machine, spinning_guest(machine, ENTRY):
        found = inspect(PID, host, None)
    if not found.stage2:
        pytest.skip("debugfs has no stage2_page_tables: CONFIG_PTDUMP_STAGE2_DEBUGFS, and root")
    mapped = [each for vm in found.stage2 for each in vm.mapped]
    assert any(start <= ENTRY < end for start, end in mapped)
    assert all(RAM_BASE <= start < end for start, end in mapped)


@pytest.mark.needs_arch("aarch64")
@pytest.mark.needs_device("grace")
def test_the_cacheable_bar_lacks_the_uncached_flag(host: Host, kvm: System) -> None:
    bdf = str(next(find_devices("grace")))
    with Machine(kvm) as machine, AssignedDevice(machine, bdf) as device:
        found = {p.size: each for p, each in inspect(PID, host, None).parts if p.vma}
        sizes = {bar.region.name: bar.region.size for bar in device.bars}
    types = {name: found[size][-1].why for name, size in sizes.items()}
    assert "Normal-NC in stage 2, if" in types["BAR2"]
    assert "by a variant driver" in types["BAR4"]


def named(host: Host, slot: Slot) -> list[tuple[int | None, int, list[str]]]:
    """Return GPA, size and the findings' names for each part of a slot."""
    return [
        (part.gpa, part.size, [finding.name for finding in part_findings(part, host, PID)])
        for part in slot_parts(slot, PID)
    ]


def test_a_slot_is_split_at_vma_boundaries(host: Host) -> None:
    with Mapping.anonymous(5 * PAGE_SIZE) as memory:
        memory.protect(PROT_READ, at=PAGE_SIZE, size=PAGE_SIZE)
        memory.unmap(at=2 * PAGE_SIZE, size=PAGE_SIZE)
        memory.protect(PROT_NONE, at=4 * PAGE_SIZE)
        found = named(host, Slot(0, GPA, memory.size, memory.hva))
    assert found == [
        (GPA, PAGE_SIZE, ["stage-2"]),
        (GPA + PAGE_SIZE, PAGE_SIZE, ["hva-read-only", "stage-2"]),
        (GPA + 2 * PAGE_SIZE, PAGE_SIZE, ["hva-unmapped"]),
        (GPA + 3 * PAGE_SIZE, PAGE_SIZE, ["stage-2"]),
        (GPA + 4 * PAGE_SIZE, PAGE_SIZE, ["hva-no-access"]),
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for /proc/PID/map_files")
def test_a_page_within_a_part(host: Host) -> None:
    fd = os.memfd_create("guest")
    os.ftruncate(fd, 2 * PAGE_SIZE)
    with Mapping.of_file(fd, 4 * PAGE_SIZE) as memory:
        slot = Slot(0, GPA, memory.size, memory.hva)
        [(_, _, names)] = named(host, slot)
        parts = list(slot_parts(slot, PID))
        found = {
            gpa: {f.name: f.mark for f in of_run(host, errno.EFAULT, parts, gpa, PID)}
            for gpa in (None, GPA, GPA + 3 * PAGE_SIZE)
        }
    os.close(fd)
    assert names == ["file-truncated", "stage-2"]
    marks = [each["file-truncated"] for each in found.values()]
    assert marks == ["inferred", "impossible", "known"]


def test_a_slot_within_one_vma(host: Host) -> None:
    with Mapping.anonymous(3 * PAGE_SIZE) as memory:
        [part] = slot_parts(Slot(0, GPA, PAGE_SIZE, memory.hva + PAGE_SIZE), PID)
    assert (part.gpa, part.hva, part.size) == (GPA, memory.hva + PAGE_SIZE, PAGE_SIZE)


def test_a_slot_over_a_hole(host: Host) -> None:
    [(_, _, names)] = named(host, Slot(0, GPA, PAGE_SIZE, PAGE_SIZE))
    assert names == ["hva-unmapped"]


def test_a_read_only_slot_over_a_read_only_mapping(host: Host) -> None:
    with Mapping(PAGE_SIZE) as memory:
        memory.place_anonymous(prot=PROT_READ)
        [(_, _, names)] = named(host, Slot(0, GPA, PAGE_SIZE, memory.hva, KVM_MEM_READONLY))
    assert names == ["stage-2"]
