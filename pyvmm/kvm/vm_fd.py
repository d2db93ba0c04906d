# SPDX-License-Identifier: GPL-2.0-only
"""The capabilities and the vCPUs of a VM fd."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pyvmm.ioctl import IoctlError
from pyvmm.kvm.device import AttrFd
from pyvmm.kvm.run_gate import RunGate
from pyvmm.kvm.vcpu import Vcpu
from pyvmm.uapi.kvm import (
    KVM_CHECK_EXTENSION,
    KVM_CREATE_VCPU,
    KVM_ENABLE_CAP,
    KVM_VM_TYPE_ARM_PROTECTED,
    kvm_enable_cap,
)

_POLL = 50e-6  # seconds; a signal ends KVM_RUN within some ten microseconds


class VmFd(AttrFd):
    """The fd that ``KVM_CREATE_VM`` returns, with its capabilities and vCPUs.

    Attributes:
        vm_type: the machine type passed to ``KVM_CREATE_VM``.
        pid: the process that created it; KVM accepts the ioctls of that one alone.
        enabled: the capabilities enabled with `enable`; the kernel has no ioctl to query them.
        vcpus: the vCPUs, in the order of their creation.
        lock: held to change memory in several steps, and to handle a fault. Reentrant.
        changes: the number of times the guest's memory was changed under `paused`, or to fix a
            fault. If it differs from before, an access that failed may succeed now.
    """

    kind = "vm"

    def __init__(self, number: int, run_size: int, vm_type: int = 0) -> None:
        """Own fd `number`; `run_size` is ``KVM_GET_VCPU_MMAP_SIZE``, in bytes."""
        super().__init__(number)
        self._run_size = run_size
        self.vm_type = vm_type
        self.pid = os.getpid()
        self.enabled: set[int] = set()
        self._gate = RunGate()
        self.lock = self._gate.lock
        self.changes = 0
        self.vcpus: list[Vcpu] = []

    @property
    def protected(self) -> bool:
        """Return True for a protected guest (pKVM), whose memory must not be touched.

        In the VMM, a load or store is a SIGSEGV. In the kernel, as for process_vm_readv(2), it
        takes the page from the guest and zeroes it (Documentation/virt/kvm/arm/pkvm.rst).
        """
        return bool(self.vm_type & KVM_VM_TYPE_ARM_PROTECTED)

    def check(self, capability: int) -> int:
        """Call ``KVM_CHECK_EXTENSION`` on the VM: 0 if absent, else a positive value.

        Raises `IoctlError` if the kernel rejects `capability`.
        """
        return self.ioctl(KVM_CHECK_EXTENSION, capability)

    def offers(self, capability: int) -> int:
        """Return the value of `check`, or 0 if the kernel rejects `capability`."""
        try:
            return self.check(capability)
        except IoctlError:
            return 0

    def enable(self, capability: int, *args: int, flags: int = 0) -> None:
        """Enable a capability with ``KVM_ENABLE_CAP``. Raises `IoctlError`."""
        request = kvm_enable_cap(cap=capability, flags=flags)
        for index, arg in enumerate(args):
            request.args[index] = arg
        self.ioctl(KVM_ENABLE_CAP, request)
        self.enabled.add(capability)

    def create_vcpu(self, index: int = 0) -> Vcpu:
        """Create a vCPU with ``KVM_CREATE_VCPU``; on arm64 `arch.arm64.setup` initializes it."""
        vcpu = Vcpu(self.ioctl(KVM_CREATE_VCPU, index), self._run_size, self._gate)
        self.vcpus.append(vcpu)
        return vcpu

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Keep all vCPUs out of the guest during the block. Reentrant.

        The guest then sees several changes as one. To change the HVA or size of a memslot, for
        example, the VMM deletes it and adds another: an access in between exits as MMIO, and a
        fetch takes an abort (kvm_handle_guest_abort in arch/arm64/kvm/mmu.c). A vCPU's own thread
        may call this while it handles an exit.
        """
        gate = self._gate
        with self.lock:
            if gate.closed:
                yield
                return
            gate.closed = True
            try:
                for vcpu in self.vcpus:
                    vcpu.kick()
                while any(vcpu.in_kvm_run for vcpu in self.vcpus):
                    time.sleep(_POLL)
                yield
            finally:
                self.changes += 1
                gate.closed = False
                for vcpu in self.vcpus:
                    vcpu.unkick()

    def close(self) -> None:
        """Close the vCPUs and the VM fd."""
        for vcpu in reversed(self.vcpus):
            vcpu.close()
        self.vcpus.clear()
        super().close()
