# SPDX-License-Identifier: GPL-2.0-only
"""The ``struct kvm_run`` of a traced vCPU: the page that its VMM shares with KVM.

pidfd_getfd(2) duplicates the vCPU's descriptor for a moment, to mmap(2) the page. KVM rejects
ioctls from another process than the VM's, but not mmap(2). Reading the exit reason then needs no
system call; process_vm_readv(2) would add one to each of a hundred thousand exits. The mapping
holds a reference to the VM, so it is removed when the tracee closes its last descriptor of the
vCPU.
"""

import errno as errnos
import mmap
import os
import struct
from dataclasses import fields
from typing import Any

from pyvmm import libc
from pyvmm.errno_names import EHWPOISON
from pyvmm.kvm import exits
from pyvmm.memory import PAGE_SIZE
from pyvmm.trace.ptrace import SYSCALLS
from pyvmm.trace.symbols import symbol_of
from pyvmm.trace.values import Names, Value, Values
from pyvmm.uapi.kvm import KVM_EXIT_IO, KVM_EXIT_IO_IN, KVM_EXIT_MEMORY_FAULT, KVM_EXIT_MMIO
from pyvmm.uapi.names import names
from pyvmm.uapi.native_arch import kvm_run

_SIZE = 2 * PAGE_SIZE  # struct kvm_run, then the port I/O data
_REASON = struct.Struct("=8xI").unpack_from
_KINDS = {n: name.removeprefix("KVM_EXIT_").lower() for n, name in names("KVM_EXIT_").items()}


class RunPage:
    """The mapped ``struct kvm_run`` of one vCPU."""

    def __init__(self, pid: int, fd: int) -> None:
        """Map the page of vCPU `fd` of process `pid`.

        Raises `OSError` if the process has ended, or before Linux 5.6 (pidfd_getfd).
        """
        pidfd = os.pidfd_open(pid)
        try:
            copy = libc.syscall(SYSCALLS["pidfd_getfd"], pidfd, fd, 0)
        finally:
            os.close(pidfd)
        try:
            self._mapping = mmap.mmap(copy, _SIZE)
        finally:
            os.close(copy)
        self.shared = memoryview(self._mapping)

    def close(self) -> None:
        """Unmap the page, which drops this process's reference to the VM."""
        self.shared.release()
        self._mapping.close()

    def kind(self, errno: int) -> str:
        """Return the kind of exit ("mmio"); after a failed ``KVM_RUN``, the kind for its errno."""
        [reason] = _REASON(self.shared)
        if errno:
            return _failure_kind(reason, errno)
        return _KINDS.get(reason, f"exit_{reason}")

    def exit(self, errno: int) -> exits.Exit:
        """Return the decoded exit of a ``KVM_RUN`` that failed with `errno`, or succeeded (0)."""
        return exits.decode_failure(self.shared, errno) if errno else exits.decode(self.shared)

    def vmm_input(self) -> Values:
        """Return what the VMM wrote for KVM: the data of an emulated read, or a stop request."""
        run = kvm_run.from_buffer(self._mapping)
        values: Values = {}
        if run.immediate_exit:
            values["immediate_exit"] = run.immediate_exit
        if run.request_interrupt_window:
            values["request_interrupt_window"] = run.request_interrupt_window
        if run.exit_reason == KVM_EXIT_MMIO and not run.mmio.is_write:
            values["answer"] = bytes(run.mmio.data[: min(run.mmio.len, 8)]).hex()
        elif run.exit_reason == KVM_EXIT_IO and run.io.direction == KVM_EXIT_IO_IN:
            start, size = run.io.data_offset, run.io.size * run.io.count
            values["answer"] = bytes(self.shared[start : start + size]).hex()
        del run
        return values

    def inject_memory_fault(self, gpa: int, size: int, flags: int) -> None:
        """Fill in a ``KVM_EXIT_MEMORY_FAULT`` as KVM does; `gpa` and `size` in bytes."""
        run = kvm_run.from_buffer(self._mapping)
        run.exit_reason = KVM_EXIT_MEMORY_FAULT
        run.memory_fault.gpa = gpa
        run.memory_fault.size = size
        run.memory_fault.flags = flags
        del run


def exit_values(vcpu_exit: exits.Exit, names: Names) -> Values:
    """Return the members of an exit's payload; add symbolic names to `names`."""
    payload: Any = vcpu_exit
    values = {f.name: _value(getattr(vcpu_exit, f.name)) for f in fields(payload)}
    values.pop("errno", None)  # the event already has it
    for name, value in values.items():
        if isinstance(value, int) and (symbol := symbol_of(f"{vcpu_exit.kind}.{name}", value)):
            names[name] = symbol
    return values


def _failure_kind(reason: int, errno: int) -> str:
    if errno in (errnos.EINTR, errnos.EAGAIN):
        return "intr"
    if errno in (errnos.EFAULT, EHWPOISON) and reason == KVM_EXIT_MEMORY_FAULT:
        return "memory_fault"
    return "run_failure"


def _value(value: object) -> Value:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        return [_value(item) for item in value]
    if isinstance(value, dict):
        return {name: _value(item) for name, item in value.items()}
    assert isinstance(value, int)
    return value
