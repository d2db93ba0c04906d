# SPDX-License-Identifier: GPL-2.0-only
"""Each condition under which KVM rejects a memslot, provoked in a real VM."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pyvmm.ioctl import IoctlError
from pyvmm.kvm import GuestMemfd, System, Vm
from pyvmm.kvm.memslots import MemslotError
from pyvmm.memory import PAGE_SIZE, Mapping
from pyvmm.uapi.kvm import (
    GUEST_MEMFD_FLAG_MMAP,
    KVM_CAP_ARM_MTE,
    KVM_CAP_GUEST_MEMFD,
    KVM_CAP_GUEST_MEMFD_FLAGS,
    KVM_CAP_NR_MEMSLOTS,
    KVM_CAP_USER_MEMORY2,
    KVM_MEM_GUEST_MEMFD,
    KVM_MEM_LOG_DIRTY_PAGES,
)
from pyvmm.why import Host, RegistrationFacts, Slot, VmState, judge, most_likely
from pyvmm.why.registration import CONDITIONS
from tests.why.hosts import X86, offering

SIZE = 4 * PAGE_SIZE


GMEM = "/[kvm-gmem] (deleted)"
OLD_GMEM = "anon_inode:[kvm-gmem]"  # before guest_memfd had a file system of its own
MEMFD_FILE = "the file behind the guest_memfd descriptor"
VM_STATE = "the process that created the VM, and whether it is dead"
VM_TYPE = "the machine type of KVM_CREATE_VM"


def state(**known: bool) -> dict[str, Any]:
    """Return the fact of a VM's state."""
    return {"read_vm_state": lambda: VmState(**known)}


def file(name: str) -> dict[str, Any]:
    """Return the fact of the file behind the guest_memfd descriptor."""
    return {"known_memfd_file": name}


def protected(yes: bool) -> dict[str, Any]:
    """Return the fact that the VM is a protected one, or not."""
    return {"known_protected": yes}


@dataclass(frozen=True)
class Memfd:
    """A guest_memfd as facts."""

    vm: object
    size: int = SIZE
    flags: int = 0
    closed: bool = False

    @property
    def owner(self) -> object:
        return self.vm


class Attempt:
    """A VM, and memory to register in it."""

    def __init__(self, system: System, vm: Vm, memory: Mapping) -> None:
        self.system, self.vm, self.memory = system, vm, memory
        self.add = vm.memslots.add

    def memfd(self, vm: Vm | None = None, flags: int = GUEST_MEMFD_FLAG_MMAP) -> GuestMemfd:
        """Create a guest_memfd, or skip the test."""
        vm = vm or self.vm
        if not vm.check(KVM_CAP_GUEST_MEMFD) or flags & ~vm.check(KVM_CAP_GUEST_MEMFD_FLAGS):
            pytest.skip(
                "this kernel has no mappable guest_memfd: python -m pyvmm lab test --kernel 7.2"
            )
        return vm.create_guest_memfd(SIZE, flags)


@pytest.fixture
def attempt(kvm: System, vm: Vm) -> Iterator[Attempt]:
    with Mapping.anonymous(SIZE) as memory:
        yield Attempt(kvm, vm, memory)


def memfd_of_another_vm(a: Attempt) -> None:
    with a.system.create_vm() as other:
        a.add(0, None, guest_memfd=a.memfd(other))


def memfd_bound_twice(a: Attempt) -> None:
    memfd = a.memfd()
    a.add(0, None, guest_memfd=memfd)
    a.add(SIZE, None, guest_memfd=memfd, guest_memfd_offset=PAGE_SIZE, size=PAGE_SIZE)


def existing(a: Attempt, **changed: object) -> None:
    slot = a.add(0, a.memory)
    a.add(0, a.memory, **{"number": slot.number, **changed})  # type: ignore[arg-type]


def moved_memfd(a: Attempt) -> None:
    a.vm.memslots.move(a.add(0, None, guest_memfd=a.memfd()), SIZE)


CASES: dict[str, tuple[str, Callable[[Attempt], object]]] = {
    "number": ("slot-number", lambda a: a.add(0, a.memory, number=a.vm.check(KVM_CAP_NR_MEMSLOTS))),
    "space": ("address-space", lambda a: a.add(0, a.memory, number=7 << 16)),
    "read-only memfd": (
        "flags",
        lambda a: a.add(0, None, guest_memfd=a.memfd(), readonly=True),
    ),
    "logged memfd": ("flags", lambda a: a.add(0, None, guest_memfd=a.memfd(), log_dirty=True)),
    "size": ("size-unaligned", lambda a: a.add(0, a.memory, size=PAGE_SIZE + 1)),
    "gpa": ("gpa-unaligned", lambda a: a.add(8, a.memory)),
    "hva": ("hva-unaligned", lambda a: a.add(0, a.memory, at=8, size=PAGE_SIZE)),
    "tagged": (
        "hva-outside-user-space",
        lambda a: a.add(0, a.memory, at=1 << 60, size=PAGE_SIZE),
    ),
    "half outside": ("hva-outside-user-space", lambda a: a.add(0, a.memory, size=1 << 60)),
    "offset": (
        "guest-memfd-offset",
        lambda a: a.add(0, None, guest_memfd=a.memfd(), guest_memfd_offset=8, size=PAGE_SIZE),
    ),
    "wraps": ("gpa-wraps", lambda a: a.add((1 << 64) - PAGE_SIZE, a.memory)),
    "pages": ("too-large", lambda a: a.add(0, None, size=(1 << 31) * PAGE_SIZE)),
    "nothing": ("no-such-slot", lambda a: a.add(0, a.memory, size=0)),
    "other hva": ("changed-in-place", lambda a: existing(a, at=PAGE_SIZE, size=SIZE)),
    "other size": ("changed-in-place", lambda a: existing(a, size=PAGE_SIZE)),
    "now read-only": ("changed-in-place", lambda a: existing(a, readonly=True)),
    "moved memfd": ("changed-in-place", moved_memfd),
    "same gpa": ("overlap", lambda a: [a.add(0, a.memory) for _ in range(2)]),
    "one page": (
        "overlap",
        lambda a: [a.add(0, a.memory), a.add(SIZE - PAGE_SIZE, a.memory)],
    ),
    "foreign memfd": ("guest-memfd-of-another-vm", memfd_of_another_vm),
    "short memfd": (
        "guest-memfd-too-short",
        lambda a: a.add(0, None, guest_memfd=a.memfd(), size=SIZE + PAGE_SIZE),
    ),
    "end of memfd": (
        "guest-memfd-too-short",
        lambda a: a.add(0, None, guest_memfd=a.memfd(), guest_memfd_offset=PAGE_SIZE, size=SIZE),
    ),
    "bound memfd": ("guest-memfd-bound", memfd_bound_twice),
}


def rejected(attempt: Attempt, case: Callable[[Attempt], object]) -> MemslotError:
    """Return the error of a rejected request, which is one line."""
    with pytest.raises(MemslotError) as failure:
        case(attempt)
    assert "\n" not in str(failure.value)
    return failure.value


@pytest.mark.parametrize("case", CASES)
def test_cause(attempt: Attempt, case: str) -> None:
    cause, provoke = CASES[case]
    assert rejected(attempt, provoke).cause == cause


def test_a_rejected_slot_is_not_recorded(attempt: Attempt) -> None:
    slot = attempt.add(0, attempt.memory)
    rejected(attempt, lambda a: a.add(PAGE_SIZE, a.memory))
    assert list(attempt.vm.memslots) == [slot]


def test_the_text_names_the_overlapping_slot(attempt: Attempt) -> None:
    attempt.add(SIZE, attempt.memory, number=3)
    error = rejected(attempt, lambda a: a.add(2 * SIZE - PAGE_SIZE, a.memory))
    assert str(error).startswith(
        "KVM_SET_USER_MEMORY_REGION on the vm fd: EEXIST (File exists): it overlaps slot 3, "
        f"GPA {SIZE:#x} to {2 * SIZE:#x} ["
    )


def test_slots_of_different_address_spaces_do_not_overlap() -> None:
    old = Slot(0, 0, SIZE, SIZE)
    new = Slot(1 << 16, 0, SIZE, SIZE)
    facts = RegistrationFacts(errno=errno.EEXIST, host=X86, slot=new, known_slots=[old])
    assert most_likely(CONDITIONS, facts) is None
    finding = most_likely(CONDITIONS, replace(facts, slot=replace(new, number=1)))
    assert finding
    assert finding.name == "overlap"


@pytest.mark.parametrize(
    ("errno_of_bound", "cause"),
    [(errno.EINVAL, "guest-memfd-bound"), (errno.EEXIST, "beyond-guest-addresses")],
    ids=["bound first", "bound last"],
)
def test_the_kernel_tests_a_bound_guest_memfd_before_or_after_the_architecture(
    errno_of_bound: int, cause: str
) -> None:
    """Before Linux 7.3, kvm_gmem_bind came first, and answered EINVAL."""
    memfd = Memfd(vm=None)
    old = Slot(0, 0, SIZE, 0, guest_memfd=memfd)
    facts = RegistrationFacts(
        errno=errno.EINVAL,
        host=replace(
            offering(KVM_CAP_NR_MEMSLOTS, arch="x86_64"),
            check=lambda number: 10,
            guest_memfd_bound_errno=lambda: errno_of_bound,
        ),
        slot=Slot(1, 1 << 46, SIZE, 0, guest_memfd=memfd),
        known_slots=[old],
    )
    finding = most_likely(CONDITIONS, facts)
    assert finding
    assert finding.name == cause


def test_beyond_what_the_host_offers_the_vm_does_not_matter() -> None:
    """In protected mode KVM ignores the IPA size of KVM_CREATE_VM."""
    limit = 48
    facts = RegistrationFacts(
        errno=errno.EFAULT,
        host=replace(offering(), check=lambda number: limit),
        slot=Slot(0, 1 << limit, SIZE, 0),
        known_slots=(),
        known_ipa_bits=40,
    )
    finding = most_likely(CONDITIONS, facts)
    assert finding
    assert "beyond the 48 bits that KVM offers here" in finding.why


def test_memory_of_which_smaps_does_not_say_whether_it_can_be_tagged() -> None:
    """A file on tmpfs can hold tags; smaps shows only that its file system has no block device."""
    with (
        tempfile.TemporaryFile(dir="/dev/shm") as file,
        Mapping.of_file(file.fileno(), PAGE_SIZE) as memory,
    ):
        file.truncate(PAGE_SIZE)
        slot = Slot(0, 0, PAGE_SIZE, memory.hva)
        facts = RegistrationFacts(
            errno=errno.EINVAL,
            host=offering(KVM_CAP_ARM_MTE, KVM_CAP_NR_MEMSLOTS),
            slot=slot,
            known_slots=(),
            known_ipa_bits=40,
            known_enabled={KVM_CAP_ARM_MTE},
            pid="self",
        )
        [finding] = [f for f in judge(CONDITIONS, facts) if f.name == "memory-tagging"]
    assert (finding.mark, finding.needs) == ("inferred", None)
    assert "may be unable to hold tags" in finding.why


LOGGED = Slot(0, 0, SIZE, SIZE, KVM_MEM_LOG_DIRTY_PAGES)
PLAIN = Slot(0, 0, SIZE, SIZE)
BOUND = Slot(0, 0, SIZE, 0, KVM_MEM_GUEST_MEMFD, Memfd(vm=None))
GMEM_HOST = offering(KVM_CAP_GUEST_MEMFD, KVM_CAP_USER_MEMORY2, KVM_CAP_NR_MEMSLOTS)
REGION2_HOST = offering(KVM_CAP_USER_MEMORY2, KVM_CAP_NR_MEMSLOTS)
OLD_HOST = offering(KVM_CAP_NR_MEMSLOTS)

# The condition, what the case is, errno, host, slot, other facts, and the mark or absent fact.
ROWS: tuple[tuple[str, str, int, Host, Slot, dict[str, Any], str], ...] = (
    ("another-process", "forked", errno.EIO, GMEM_HOST, PLAIN, state(same_process=False), "known"),
    ("another-process", "the creator", errno.EIO, GMEM_HOST, PLAIN, state(), "impossible"),
    ("another-process", "not asked", errno.EIO, GMEM_HOST, PLAIN, {}, VM_STATE),
    ("vm-dead", "dead", errno.EIO, GMEM_HOST, PLAIN, state(dead=True), "known"),
    ("vm-dead", "alive", errno.EIO, GMEM_HOST, PLAIN, state(), "impossible"),
    ("region2-unsupported", "Linux 6.1", errno.EINVAL, OLD_HOST, BOUND, {}, "known"),
    ("region2-unsupported", "Linux 6.12", errno.EINVAL, REGION2_HOST, BOUND, {}, "impossible"),
    ("region2-unsupported", "the old ioctl", errno.EINVAL, OLD_HOST, PLAIN, {}, "impossible"),
    ("flags", "no guest_memfd", errno.EINVAL, REGION2_HOST, BOUND, {}, "known"),
    ("flags", "guest_memfd", errno.EINVAL, GMEM_HOST, BOUND, {}, "impossible"),
    ("flags", "unknown bit", errno.EINVAL, GMEM_HOST, replace(PLAIN, flags=8), {}, "inferred"),
    ("out-of-memory", "logged", errno.ENOMEM, GMEM_HOST, LOGGED, {}, "inferred"),
    ("out-of-memory", "EINVAL", errno.EINVAL, GMEM_HOST, LOGGED, {}, "not tested"),
    ("guest-memfd-bad-descriptor", "closed", errno.EBADF, GMEM_HOST, BOUND, file(""), "known"),
    ("guest-memfd-bad-descriptor", "open", errno.EBADF, GMEM_HOST, BOUND, file(GMEM), "impossible"),
    ("guest-memfd-bad-descriptor", "none", errno.EBADF, GMEM_HOST, PLAIN, {}, "impossible"),
    ("guest-memfd-bad-descriptor", "unknown", errno.EBADF, GMEM_HOST, BOUND, {}, MEMFD_FILE),
    ("not-a-guest-memfd", "a file", errno.EINVAL, GMEM_HOST, BOUND, file("/dev/kvm"), "known"),
    ("not-a-guest-memfd", "6.12", errno.EINVAL, GMEM_HOST, BOUND, file(OLD_GMEM), "impossible"),
    ("not-a-guest-memfd", "7.3", errno.EINVAL, GMEM_HOST, BOUND, file(GMEM), "impossible"),
    ("protected-vm", "logged", errno.EPERM, GMEM_HOST, LOGGED, protected(True), "known"),
    ("protected-vm", "deleted", errno.EPERM, GMEM_HOST, PLAIN, protected(True), "known"),
    ("protected-vm", "ordinary VM", errno.EPERM, GMEM_HOST, LOGGED, protected(False), "impossible"),
    ("protected-vm", "unknown VM", errno.EPERM, GMEM_HOST, LOGGED, {}, VM_TYPE),
    ("protected-vm", "x86", errno.EPERM, X86, LOGGED, protected(False), "impossible"),
)


@pytest.mark.parametrize(
    ("name", "number", "host", "slot", "others", "expected"),
    [pytest.param(name, *rest, id=f"{name}-{case}") for name, case, *rest in ROWS],
)
def test_finding(
    name: str, number: int, host: Host, slot: Slot, others: dict[str, Any], expected: str
) -> None:
    [condition] = [each for each in CONDITIONS if each.name == name]
    facts = RegistrationFacts(errno=number, host=host, slot=slot, known_slots=(), **others)
    found = [finding.needs or finding.mark for finding in judge([condition], facts)]
    assert found == ([] if expected == "not tested" else [expected])


@pytest.mark.needs_arch("x86_64")
def test_beyond_guest_addresses(attempt: Attempt) -> None:
    error = rejected(attempt, lambda a: a.add((1 << 52) - PAGE_SIZE, a.memory))
    assert error.cause == "beyond-guest-addresses"


@pytest.mark.needs_arch("aarch64")
@pytest.mark.parametrize("bits", [32, 36, 40, 0])
def test_beyond_ipa_size(kvm: System, bits: int) -> None:
    with kvm.create_vm(bits) as vm, Mapping.anonymous(SIZE) as memory:
        end = 1 << (bits or 40)
        vm.memslots.add(end - SIZE, memory)
        with pytest.raises(MemslotError, match=f"{bits or 40}-bit IPA space") as failure:
            vm.memslots.add(end, memory)
    assert failure.value.cause == "beyond-ipa-size"


@pytest.mark.needs_arch("aarch64")
def test_arm64_rejects_a_guest_memfd_without_mmap(attempt: Attempt) -> None:
    error = rejected(attempt, lambda a: a.add(0, None, guest_memfd=a.memfd(flags=0)))
    assert error.cause == "guest-memfd-not-mappable"


@pytest.fixture
def device_memory() -> Iterator[Mapping]:
    """Map a BAR of any PCI device through sysfs: PFNMAP, not cacheable."""
    for resource in sorted(Path("/sys/bus/pci/devices").glob("*/resource[0-5]")):
        fd = os.open(resource, os.O_RDWR)
        with contextlib.closing(os.fdopen(fd, "r+b", buffering=0)):
            try:
                memory = Mapping.of_file(fd, PAGE_SIZE)
            except OSError:  # I/O ports, or smaller than a page
                continue
        with memory:
            yield memory
        return
    pytest.skip(
        "no PCI device has a BAR that can be mapped: python -m pyvmm lab test --device bochs"
    )


@pytest.mark.needs_arch("aarch64")
def test_device_memory_can_be_registered(vm: Vm, device_memory: Mapping) -> None:
    assert vm.memslots.add(0, device_memory).size == PAGE_SIZE


@pytest.mark.needs_arch("aarch64")
def test_dirty_log_of_pfnmap(attempt: Attempt, device_memory: Mapping) -> None:
    error = rejected(attempt, lambda a: a.add(0, device_memory, log_dirty=True))
    assert error.cause == "dirty-log-of-pfnmap"


@pytest.mark.needs_arch("aarch64")
def test_dirty_log_of_registered_pfnmap(attempt: Attempt, device_memory: Mapping) -> None:
    slot = attempt.add(0, device_memory)
    error = rejected(attempt, lambda a: a.vm.memslots.log_dirty(slot, True))
    assert error.cause == "dirty-log-of-pfnmap"


@pytest.mark.needs_arch("aarch64")
def test_memory_tagging(attempt: Attempt, device_memory: Mapping) -> None:
    try:
        attempt.vm.enable(KVM_CAP_ARM_MTE)
    except IoctlError:
        pytest.skip("this CPU has no memory tagging: in the lab, --cpu max+mte")
    attempt.add(0, attempt.memory)
    error = rejected(attempt, lambda a: a.add(SIZE, device_memory))
    assert error.cause == "memory-tagging"
