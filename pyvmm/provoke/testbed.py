# SPDX-License-Identifier: GPL-2.0-only
"""The virtual machine of one provocation: target memory or a BAR, and a guest that accesses it."""

import errno
import io
import os
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

from pyvmm.arch.page_tables import MemoryType, identity
from pyvmm.errno_names import errno_name
from pyvmm.errors import SkippedError
from pyvmm.faults import Fault, Fix
from pyvmm.guest import probe, snippet
from pyvmm.guest.payload import Payload
from pyvmm.ioctl import IoctlError
from pyvmm.kvm.exits import Halt, SystemEvent
from pyvmm.kvm.memslots import MemslotError
from pyvmm.kvm.system import System
from pyvmm.machine import ARGUMENT_BLOCK, Machine
from pyvmm.memory import PAGE_SIZE, Mapping, round_up
from pyvmm.passthrough import AssignedDevice, SlotOutcome
from pyvmm.passthrough.assigned import PlacedBar
from pyvmm.provenance import Recorder
from pyvmm.uapi.kvm import KVM_VM_TYPE_ARM_PROTECTED
from pyvmm.vfio.sysfs import PciFunction, list_functions
from pyvmm.why import Mark

TARGET_GPA = 1 << 32
_PROTECTED_BITS = 33  # of IPA space, which TARGET_GPA needs
TARGET_SIZE = 4 * PAGE_SIZE
FILE_CONTENT = b"content!"


@dataclass(frozen=True)
class Provocation:
    """A way to make an access fault, or KVM fail an ioctl.

    Attributes:
        name: the name on the command line and in JSON.
        how: the action, as tables and JSON print it.
        cause: the expected cause, or None if the kernel resolves the access.
        provoke: the function that provokes it. A `MemslotError` that it raises is the result.
        harm: lasting harm to the host, or None. A harmful provocation runs only on request.
        crashes: it may crash the host, so it runs only if it is named.
        resolved_by: the kernels or CPUs that resolve the access instead, or None if none does.
    """

    name: str
    how: str
    cause: str | None
    provoke: "Callable[[Testbed], None]"
    harm: str | None = None
    resolved_by: str | None = None
    crashes: bool = False


@dataclass(frozen=True)
class Failure:
    """An ioctl that KVM failed without a fault of the guest's.

    Attributes:
        ioctl: its name.
        errno: by name.
        cause: the condition's name in `pyvmm.why`, or "unknown".
        mark: how sure the cause is, or None if it is "unknown".
        why: the cause in one sentence.
    """

    ioctl: str
    errno: str
    cause: str
    mark: Mark | None
    why: str

    @classmethod
    def of(cls, function: Callable[[], object]) -> Self | None:
        """Call `function` and return the failure of the memslot that KVM rejects, or None."""
        try:
            function()
        except MemslotError as error:
            return cls.of_memslot(error)
        return None

    @classmethod
    def of_memslot(cls, error: MemslotError) -> Self:
        """Return the failure of a rejected memslot."""
        mark = error.finding.mark if error.finding else None
        name = errno_name(error.errno)
        return cls(error.request.name, name, error.cause, mark, error.why or "")


def first_remedy(fault: Fault) -> Fix:
    """Choose the first remedy of a fault, whatever the guest loses by it."""
    return fault.remedies[0].fix if fault.remedies else Fix.STOP


def find_function(driver: str) -> PciFunction:
    """Return the first PCI function bound to `driver`. Raises `SkippedError` if none is."""
    for function in list_functions():
        if function.driver == driver:
            return function
    raise SkippedError(f"needs a device that {driver} has: in the lab, --device bochs or grace")


class Testbed:
    """A virtual machine for one provocation.

    Attributes:
        system: /dev/kvm.
        stack: closes everything that the provocation opened.
        machine: the machine.
        guest: what the guest noticed, as tables and JSON print it.
        rejected: the memslot over a BAR that KVM rejected, or None.
        failure: another ioctl that KVM failed, or None.
    """

    def __init__(self, system: System, stack: ExitStack, recorder: Recorder | None = None) -> None:
        """Create the machine; `stack` closes it. `recorder` records the kernel's path to faults."""
        self._recorder = recorder
        self.system = system
        self.stack = stack
        self.machine = self._create_machine()
        self.guest = "did not run"
        self.rejected: SlotOutcome | None = None
        self.failure: Failure | None = None

    def _create_machine(self, *enable: int, vm_type: int | None = None) -> Machine:
        machine = Machine(self.system, console=io.BytesIO(), enable=enable, vm_type=vm_type)
        machine.faults.policy = first_remedy
        machine.faults.recorder = self._recorder
        return self.stack.enter_context(machine)

    def enable(self, capability: int, name: str) -> None:
        """Replace the machine by one with `capability` enabled.

        Call it first. Raises `SkippedError` if the VM does not offer the capability.
        """
        if not self.machine.vm.offers(capability):
            raise SkippedError(f"this kernel or CPU does not offer {name}")
        self.machine = self._create_machine(capability)

    def protect_guest(self) -> None:
        """Replace the machine by one with a protected guest. Raises `SkippedError` without pKVM."""
        try:
            self.machine = self._create_machine(vm_type=KVM_VM_TYPE_ARM_PROTECTED | _PROTECTED_BITS)
        except IoctlError as error:
            if error.errno != errno.EINVAL:
                raise
            raise SkippedError(
                "needs protected guests: arm64 with Linux 7.3, and KVM in protected mode: "
                "python -m pyvmm lab run --mode protected -- provoke"
            ) from None

    def need_device_memory(self) -> None:
        """Raise `SkippedError` if KVM maps no device memory for guests."""
        if self.machine.vm.host.may_protect_guests:
            raise SkippedError(
                "in protected mode, KVM maps no device memory for guests: see protected-bar"
            )

    def add_anonymous(self) -> int:
        """Register anonymous memory at `TARGET_GPA`; return its HVA."""
        memory = self._reserve(TARGET_SIZE)
        memory.place_anonymous(at=PAGE_SIZE, size=TARGET_SIZE)
        return self._register(memory, TARGET_SIZE)

    def add_file(self, size: int = TARGET_SIZE) -> tuple[int, int]:
        """Register a memfd that starts with `FILE_CONTENT`; return its HVA and its fd."""
        fd = os.memfd_create("pyvmm-guest-memory")
        self.stack.callback(os.close, fd)
        os.ftruncate(fd, size)
        os.pwrite(fd, FILE_CONTENT, 0)
        memory = self._reserve(size)
        memory.place(fd, 0, at=PAGE_SIZE, size=size)
        return self._register(memory, size), fd

    def _reserve(self, size: int) -> Mapping:
        """Reserve an HVA range with a guard page on either side.

        With guard pages, a malloc of this process is less likely to fill a hole in the range.
        """
        return self.stack.enter_context(Mapping(size + 2 * PAGE_SIZE))

    def _register(self, memory: Mapping, size: int) -> int:
        """Register and map `memory` at `TARGET_GPA`; return the HVA of its first page."""
        self.machine.vm.memslots.add(TARGET_GPA, memory, at=PAGE_SIZE, size=size)
        self.map_target()
        return memory.hva + PAGE_SIZE

    def map_target(self) -> None:
        """Map `TARGET_GPA` in the guest's page tables."""
        self.machine.windows.append(identity(TARGET_GPA, TARGET_SIZE, executable=True))

    def map_bar(self, bar: PlacedBar) -> PlacedBar:
        """Map a BAR in the guest's page tables, as Normal non-cacheable memory; return it."""
        size = round_up(bar.region.size)
        self.machine.windows.append(
            identity(bar.gpa, size, MemoryType.NON_CACHEABLE, executable=True)
        )
        return bar

    def assign(self, driver: str, flip: Collection[str] = ()) -> AssignedDevice:
        """Assign the first device bound to `driver`. Raises `SkippedError` if none is."""
        function = find_function(driver)
        device = AssignedDevice(self.machine, str(function), flip=flip)
        return self.stack.enter_context(device)

    def read(
        self, gpa: int = TARGET_GPA, *, before_run: Callable[[], object] = lambda: None
    ) -> None:
        """Run a guest that reads 4 bytes at `gpa`; call `before_run` before it is entered."""
        self._access(probe.Probe(gpa), before_run)

    def write(self, gpa: int = TARGET_GPA) -> None:
        """Run a guest that writes 4 bytes at `gpa`."""
        self._access(probe.Probe(gpa, op=probe.Op.WRITE, value=0x1234_5678))

    def _access(self, access: probe.Probe, before_run: Callable[[], object] = lambda: None) -> None:
        machine = self.machine
        machine.load(Payload.builtin("probe", machine.arch.NAME))
        block = probe.pack([access])
        machine.enter(block)
        before_run()
        ended = isinstance(machine.run().last_exit, SystemEvent | Halt)
        [answer] = probe.unpack([access], machine.read(ARGUMENT_BLOCK, len(block)))
        if not ended:
            self.guest = "was stopped"
        elif answer.outcome is probe.ProbeOutcome.ABORT:
            self.guest = f"took an exception (syndrome {answer.syndrome:#x})"
        else:
            self.guest = "wrote" if access.op is probe.Op.WRITE else f"read {answer.value:#x}"

    def execute(
        self,
        words: Sequence[int],
        registers: Sequence[int],
        *,
        before_run: Callable[[], object] = lambda: None,
    ) -> None:
        """Run an arm64 guest that executes `words` with `registers` in x0, x1, ….

        `before_run` is called before the guest is entered. Raises `SkippedError` on x86.
        """
        machine = self.machine
        if machine.arch.NAME != "arm64":
            raise SkippedError("needs an arm64 guest: python -m pyvmm lab run -- provoke")
        machine.load(snippet.payload(words))
        block = snippet.pack(registers)
        machine.enter(block)
        before_run()
        ended = isinstance(machine.run().last_exit, SystemEvent)
        if machine.vm.protected:  # the VMM cannot read the guest's answer
            self.guest = "went on" if ended else "was stopped"
            return
        answer = snippet.unpack(machine.read(ARGUMENT_BLOCK, len(block)))
        if not ended:
            self.guest = "was stopped"
        elif answer.outcome is snippet.SnippetOutcome.OK:
            self.guest = "went on"
        else:
            self.guest = f"took an exception (syndrome {answer.syndrome:#x})"
