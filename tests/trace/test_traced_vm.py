# SPDX-License-Identifier: GPL-2.0-only
import errno
import os
from collections.abc import Iterator

import pytest

from pyvmm.ioctl import Fd
from pyvmm.kvm import Vm
from pyvmm.kvm.exits import MemoryFault
from pyvmm.memory import PAGE_SIZE, PROT_NONE, PROT_READ, Mapping
from pyvmm.memory.memory_cgroup import memory_limits
from pyvmm.trace.events import Ioctl, Run
from pyvmm.trace.traced_vm import UNKNOWN, Explainer, TracedVm
from pyvmm.trace.values import Values
from pyvmm.uapi.kvm import KVM_CAP_GUEST_MEMFD, KVM_MEM_GUEST_MEMFD, KVM_MEM_READONLY
from pyvmm.why import Slot
from tests.trace.conftest import Traces
from tests.userfaultfds import watched_for_missing

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

REJECTED = """
    with System.open() as system, system.create_vm() as vm, Mapping.anonymous(1 << 20) as ram:
        vm.memslots.add(0, ram)
        try:
            vm.memslots.{add}
        except IoctlError as error:
            os.write(2, f"{{error.cause}}|{{error.why}}".encode())
"""


@pytest.mark.parametrize(
    ("add", "cause"),
    [
        pytest.param("add(0x1000, ram)", "overlap", id="overlap"),
        pytest.param("add(1 << 30, ram, size=100)", "size-unaligned", id="size"),
        pytest.param("add(0x123, ram)", "gpa-unaligned", id="GPA"),
        pytest.param("add(1 << 30, ram, number=0x7fff)", "slot-number", id="number"),
        pytest.param("add(1 << 30, ram, number=0, size=4096)", "changed-in-place", id="resized"),
    ],
)
def test_reason_of_a_rejected_memslot_equals_pyvmms(
    trace: Traces, capfd: pytest.CaptureFixture[str], add: str, cause: str
) -> None:
    events = trace(REJECTED.format(add=add))
    own = capfd.readouterr().err
    [rejected] = [
        e for e in events if isinstance(e, Ioctl) and e.name.startswith("KVM_SET_USER") and e.errno
    ]
    assert rejected.cause == cause
    assert f"{rejected.cause}|{rejected.why}" == own


WRONG_FILE = """
    from pyvmm.kvm import GuestMemfd

    with System.open() as system, system.create_vm() as vm:
        memfd = GuestMemfd(os.open("/dev/null", os.O_RDWR), 0x1000, 0, vm)
        with memfd:
            try:
                vm.memslots.add(0, None, guest_memfd=memfd)
            except IoctlError as error:
                os.write(2, f"{error.cause}|{error.why}".encode())
"""


def test_another_file_for_a_guest_memfd(
    trace: Traces, capfd: pytest.CaptureFixture[str], vm: Vm
) -> None:
    """The tracer has not seen the descriptor's creation, and asks the kernel for its file."""
    if not vm.offers(KVM_CAP_GUEST_MEMFD):
        pytest.skip("this kernel has no guest_memfd: python -m pyvmm lab test --kernel 7.2")
    events = trace(WRONG_FILE)
    [rejected] = [e for e in events if isinstance(e, Ioctl) and e.cause]
    assert rejected.cause == "not-a-guest-memfd"
    assert f"{rejected.cause}|{rejected.why}" == capfd.readouterr().err


def test_a_closed_guest_memfd_descriptor(explainer: Explainer) -> None:
    closed = os.dup(0)
    os.close(closed)
    region: Values = {
        "slot": 0,
        "flags": KVM_MEM_GUEST_MEMFD,
        "guest_phys_addr": 0,
        "memory_size": PAGE_SIZE,
        "userspace_addr": 0,
        "guest_memfd": closed,
        "guest_memfd_offset": 0,
    }
    cause, _ = explainer.rejected(TracedVm("vm1", os.getpid()), region, errno.EBADF)
    assert cause == "guest-memfd-bad-descriptor"


@pytest.fixture
def explainer(kvm: object) -> Iterator[Explainer]:
    explainer = Explainer()
    yield explainer
    explainer.close()


@pytest.fixture
def memory() -> Iterator[Mapping]:
    with Mapping.anonymous(4 * PAGE_SIZE) as memory:
        yield memory


def traced_vm(memory: Mapping, flags: int = 0) -> TracedVm:
    """Return a VM of this process with `memory` in slot 3 at GPA 1 MiB."""
    vm = TracedVm("vm1", os.getpid())
    vm.set_memslot(Slot(3, 0x10_0000, memory.size, memory.hva, flags))
    return vm


def test_accessible_memory_has_no_cause(explainer: Explainer, memory: Mapping) -> None:
    assert explainer.bare_fault(traced_vm(memory))[0] == UNKNOWN


def test_hole_behind_a_memslot(explainer: Explainer, memory: Mapping) -> None:
    memory.unmap(at=2 * PAGE_SIZE, size=PAGE_SIZE)
    cause, why = explainer.bare_fault(traced_vm(memory))
    assert cause == "hva-unmapped"
    assert f"GPA {0x10_0000 + 2 * PAGE_SIZE:#x}" in why
    assert "slot 3" in why


def test_memory_without_read_permission(explainer: Explainer, memory: Mapping) -> None:
    memory.protect(PROT_NONE, at=0, size=PAGE_SIZE)
    assert explainer.bare_fault(traced_vm(memory))[0] == "hva-no-access"


def test_read_only_memory_behind_a_read_only_slot(explainer: Explainer, memory: Mapping) -> None:
    memory.protect(PROT_READ)
    assert explainer.bare_fault(traced_vm(memory, KVM_MEM_READONLY))[0] == UNKNOWN


@pytest.mark.needs_arch("aarch64")
def test_pfnmap_ram_is_blamed_if_nothing_else_is(
    explainer: Explainer, memory: Mapping, drm_shmem: Fd
) -> None:
    memory.place(drm_shmem.fileno(), 0, size=PAGE_SIZE)
    cause, why = explainer.bare_fault(traced_vm(memory))
    assert cause == "pfnmap-not-writable"
    assert "GPA 0x100000 may fail: if the access was a write" in why
    memory.unmap(at=PAGE_SIZE)
    assert explainer.bare_fault(traced_vm(memory))[0] == "hva-unmapped"


@needs_root
def test_truncated_file_behind_a_memslot(explainer: Explainer, memory: Mapping) -> None:
    fd = os.memfd_create("guest")
    os.ftruncate(fd, 2 * PAGE_SIZE)
    memory.place(fd, 0)
    cause, why = explainer.bare_fault(traced_vm(memory))
    os.close(fd)
    assert cause == "file-truncated"
    assert f"GPA {0x10_0000 + 2 * PAGE_SIZE:#x}" in why


@needs_root
def test_userfaultfd_behind_a_memslot(explainer: Explainer, memory: Mapping) -> None:
    """Nobody answers: a read of the page would wait for ever."""
    memory.write(0, b"there")
    with watched_for_missing(memory):
        cause, why = explainer.bare_fault(traced_vm(memory))
    assert cause == "userfaultfd-missing"
    assert f"GPA {0x10_0000 + PAGE_SIZE:#x}" in why


def test_no_memory_for_kvm(explainer: Explainer, memory: Mapping) -> None:
    reached = any(limit.failures for limit in memory_limits())
    cause = "memory-cgroup-limit" if reached else UNKNOWN
    assert explainer.no_memory(traced_vm(memory))[0] == cause


def test_fault_outside_memslots(explainer: Explainer, memory: Mapping) -> None:
    cause, _ = explainer.fault(traced_vm(memory), MemoryFault(0, 0x5000_0000, PAGE_SIZE, 14))
    assert cause == "outside-memslots"


def test_process_that_has_ended(explainer: Explainer) -> None:
    vm = TracedVm("vm1", 2**22 + 1)
    vm.set_memslot(Slot(0, 0, PAGE_SIZE, 0x1000))
    assert explainer.bare_fault(vm)[0] == UNKNOWN


def test_deleted_memslot() -> None:
    vm = TracedVm("vm1", os.getpid())
    vm.set_memslot(vm.requested_slot({"slot": 1, "guest_phys_addr": 0x1000, "memory_size": 0x1000}))
    assert vm.memslots.at(0x1FFF) is vm.memslots.numbered(1)
    assert vm.memslots.at(0x2000) is None
    vm.set_memslot(vm.requested_slot({"slot": 1, "guest_phys_addr": 0x1000, "memory_size": 0}))
    assert not len(vm.memslots)


@pytest.mark.needs_arch("aarch64")
def test_bare_fault_of_a_traced_vmm(trace: Traces) -> None:
    """The memory is unmapped before the guest's first instruction."""
    events = trace(
        """
        from tests.exits_vmm import exiting_machine
        with exiting_machine(10) as machine:
            machine.ram.unmap(at=0x200000, size=PAGE_SIZE)
            machine.vcpu.run()
        """
    )
    [run] = [e for e in events if isinstance(e, Run) and e.errno == "EFAULT"]
    assert (run.exit, run.cause) == ("run_failure", "hva-unmapped")
    assert "GPA 0x40200000" in run.why
