# SPDX-License-Identifier: GPL-2.0-only
"""The path of one ioctl through the kernel, built from the events of its thread.

Events arrive as functions return, so a function comes after the ones that it called. A step is the
cause of its caller's error only if the caller failed as well: KVM tries ``get_user_pages`` before
it follows the page tables of PFNMAP memory, and the first attempt's error says nothing.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from mmap import PAGESIZE
from typing import Literal

from pyvmm.provenance.functions import RETURNS, Returns
from pyvmm.provenance.trace_pipe import Event
from pyvmm.uapi.kvm import KVM_RUN, KVM_SET_USER_MEMORY_REGION, KVM_SET_USER_MEMORY_REGION2
from pyvmm.uapi.names import names

# Functions that a failed ioctl always passes, and that decide nothing.
_PASSED = frozenset(
    (
        *("kvm_vcpu_ioctl", "kvm_arch_vcpu_ioctl_run", "handle_exit"),
        *("kvm_vm_ioctl", "kvm_vm_ioctl_set_memory_region"),
    )
)
_MEMSLOT = {
    int(each): each.name for each in (KVM_SET_USER_MEMORY_REGION, KVM_SET_USER_MEMORY_REGION2)
}
_INSTRUCTION_ABORTS = (0x20, 0x21)  # ESR_ELx_EC_IABT_LOW, _CUR
_RO_FAULT, _HWPOISON = "KVM_PFN_ERR_RO_FAULT", "KVM_PFN_ERR_HWPOISON"
_ADDRESS = re.compile(r"0x[0-9a-f]{5,}")
_FAULT_EXITS = (
    *("KVM_EXIT_ARM_NISV", "KVM_EXIT_ARM_LDST64B", "KVM_EXIT_ARM_SEA", "KVM_EXIT_MEMORY_FAULT"),
    *("KVM_EXIT_INTERNAL_ERROR", "KVM_EXIT_FAIL_ENTRY"),
)
_ACCESS_EXITS = ("KVM_EXIT_MMIO", "KVM_EXIT_ARM_NISV", "KVM_EXIT_ARM_LDST64B")


@dataclass(frozen=True)
class GuestFault:
    """The tracepoint ``kvm_guest_fault``: where a guest access left stage 2 (arm64).

    Attributes:
        ipa: the page's IPA as HPFAR_EL2 gives it.
        esr, far: ESR_EL2 and FAR_EL2.
        pc: GVA of the instruction.
    """

    ipa: int
    esr: int
    far: int
    pc: int

    @property
    def access(self) -> Literal["read", "write", "exec"]:
        """Return the kind of access, from ESR_EL2, as kvm_is_write_fault does."""
        if self.table:  # it writes only to set AF or DBM, in memory that is mapped already
            return "write" if self.esr & 0x3C == 0xC else "read"
        if self.esr >> 26 in _INSTRUCTION_ABORTS:
            return "exec"
        return "write" if self.esr & 1 << 6 else "read"

    @property
    def gpa(self) -> int:
        """Return the address of the access: FAR_EL2 has the bits below 4 KiB.

        Of a table walk, only the page is known.
        """
        return self.ipa if self.table else self.ipa | self.far & 0xFFF

    @property
    def table(self) -> bool:
        """Return True for an abort on the guest's stage-1 table walk (ESR_EL2.S1PTW)."""
        return bool(self.esr & 1 << 7)


@dataclass(frozen=True)
class Request:
    """A memslot: the argument of ``KVM_SET_USER_MEMORY_REGION``, or the one at an access."""

    slot: int
    gpa: int
    size: int
    hva: int
    flags: int = 0


@dataclass(frozen=True)
class Step:
    """A function that returned an error, and the name of that error.

    Attributes:
        caller: the function that it returned to.
        recorded: everything that its probe recorded, as the kernel prints it.
    """

    function: str
    result: str
    caller: str | None = None
    recorded: str = ""

    def __str__(self) -> str:
        """Return "FUNCTION RESULT"."""
        return f"{self.function} {self.result}"


@dataclass(frozen=True)
class KernelPath:
    """The kernel's path to the end of one ioctl.

    Attributes:
        thread: the thread that made the ioctl.
        ioctl: its name.
        result: "-EFAULT", or the exit ("KVM_EXIT_MMIO").
        fault: the guest access, or None.
        request: the memslot in the ioctl's argument, or the one that backs the access; or None.
        hva: the host address that KVM tried to fault in, or None.
        steps: the functions that returned errors, in the order in which they returned.
        start, end: the time, in seconds since boot.
        log: the lines of the kernel's log at that time.
    """

    thread: int
    ioctl: str
    result: str
    fault: GuestFault | None
    request: Request | None
    hva: int | None
    steps: tuple[Step, ...]
    start: float
    end: float
    log: tuple[str, ...] = field(default=())

    @property
    def failed(self) -> bool:
        """Return True if the ioctl failed, or exited for an access that KVM could not resolve.

        A signal and a request to try again are no failures.
        """
        if self.result.startswith("-"):
            return self.result not in ("-EINTR", "-EAGAIN")
        return self.result in _FAULT_EXITS

    @property
    def causes(self) -> tuple[Step, ...]:
        """Return the steps that made the ioctl fail, from the ioctl down.

        KVM reports poisoned memory with a signal: user_mem_abort succeeds, and the signal ends the
        ioctl.
        """
        poisoned = [n for n, step in enumerate(self.steps) if step.result == _HWPOISON]
        if self.result == "-EINTR" and poisoned:
            return tuple(_down(self.steps[: poisoned[-1] + 1]))
        return tuple(_down(self.steps))

    @property
    def decided_by(self) -> Step | None:
        """Return the innermost step of `causes`: the function that decided."""
        return next(reversed(self.causes), None)

    @property
    def short(self) -> str:
        """Return the chain on one line, from the ioctl down, with the kernel's log lines.

        Of functions that returned the same, it has the innermost. Addresses are left out.
        """
        steps = self.causes
        turns = [a for a, b in zip_longest(steps, steps[1:]) if not b or a.result != b.result]
        text = " ← ".join(map(str, turns)) or self.result
        return "; ".join((text, *(f"log: {_ADDRESS.sub('…', line)}" for line in self.log)))

    def shows(self, step: str) -> bool:
        """Return True if the path has a step, an exit or a log line (see `short`)."""
        if step.startswith("log: "):
            return any(step[5:] in line for line in self.log)
        return step in (self.result, f"{self.ioctl} {self.result}", *map(str, self.causes))


def _down(steps: tuple[Step, ...]) -> Iterator[Step]:
    """Yield the last step, then the last failed step that it called, and so on."""
    callers = [_caller(steps, at) for at in range(len(steps))]
    at = len(steps) - 1
    while at >= 0:
        step = steps[at]
        yield step
        called = (n for n in range(at) if callers[n] == at)
        # A read-only PTE is found after the earlier attempts, and not because of them.
        if step.result == _RO_FAULT:
            called = (n for n in called if steps[n].result == _RO_FAULT)
        at = max(called, default=-1)


def _caller(steps: tuple[Step, ...], at: int) -> int | None:
    """Return the index of the step that called step `at`, or None if the caller did not fail."""
    if steps[at].caller not in RETURNS:  # no probe shows whether the caller failed
        return at + 1
    later = range(at + 1, len(steps))
    return next((n for n in later if steps[n].function == steps[at].caller), None)


class Paths:
    """Builds the paths of threads from their events."""

    def __init__(self) -> None:
        """Start without events."""
        self._pending: dict[int, list[Event]] = {}

    def add(self, events: Iterable[Event]) -> Iterator[KernelPath]:
        """Yield each path that these events complete."""
        for event in events:
            if path := self._add(event):
                yield path

    def _add(self, event: Event) -> KernelPath | None:
        if event.name in ("vm_ioctl", "vcpu_ioctl", "kvm_guest_fault"):
            # An earlier fault of the same run was resolved.
            self._pending[event.thread] = [event]
            return None
        if event.name in ("kvm_vcpu_ioctl", "kvm_vm_ioctl") and event.thread not in self._pending:
            return None  # kvm_userspace_exit has ended the path already
        pending = self._pending.setdefault(event.thread, [])
        pending.append(event)
        if event.name == "kvm_userspace_exit":
            result = _exit(event)
        elif event.name in ("kvm_vcpu_ioctl", "kvm_vm_ioctl"):
            result = RETURNS[event.name].decode(event.values["ret"])
        else:
            return None
        del self._pending[event.thread]
        name = _ioctl(pending)
        return _path(name, result, pending) if name else None


def _exit(event: Event) -> str:
    """Return the exit in "reason KVM_EXIT_MMIO (6)", or the errno in "reason error (14)".

    A kretprobe reports no return of a ``KVM_RUN`` that began before the recording; this event does.
    """
    _, reason, text = event.text.split()
    number = int(text.strip("()"))
    if reason in ("restart", "error"):  # restart: EINTR
        return Returns.ERRNO.decode(-number)
    return names("KVM_EXIT_").get(number, f"KVM_EXIT_{number}")


def _ioctl(events: list[Event]) -> str | None:
    """Return the name of the ioctl, or None if it neither runs a vCPU nor sets a memslot."""
    first = events[0]
    if first.name == "vm_ioctl":
        return _MEMSLOT.get(first.values.get("cmd", 0))
    if first.name == "vcpu_ioctl" and first.values.get("cmd") != KVM_RUN:
        return None
    return KVM_RUN.name


def _path(ioctl: str, result: str, events: list[Event]) -> KernelPath:
    fault, hva, request = None, None, None
    for event in events:
        values = event.values
        if event.name == "kvm_guest_fault":
            fault = GuestFault(values["ipa"], values["hsr"], values["hxfar"], values["pc"])
        elif event.name in ("pinned", "fixed_up"):
            hva = values["hva"]
        elif event.name == "slot":
            gpa, size = values["base"] * PAGESIZE, values["pages"] * PAGESIZE
            request = Request(values["slot"], gpa, size, values["hva"])
        elif event.name == "vm_ioctl":
            members = ("slot", "gpa", "size", "hva", "flags")
            request = Request(*(values.get(each, 0) for each in members))
    steps = tuple(
        Step(event.name, RETURNS[event.name].decode(event.values["ret"]), event.caller, event.text)
        for event in events
        if event.name in RETURNS
    )
    resolved = result not in _ACCESS_EXITS and all(each.function in _PASSED for each in steps)
    if fault and resolved:
        fault = hva = request = None
    return KernelPath(
        thread=events[-1].thread,
        ioctl=ioctl,
        result=result,
        fault=fault,
        request=request,
        hva=hva,
        steps=steps,
        start=events[0].time,
        end=events[-1].time,
    )
