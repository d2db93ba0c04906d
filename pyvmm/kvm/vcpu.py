# SPDX-License-Identifier: GPL-2.0-only
"""The vCPU fd: run, stop, answer exits, read and write registers."""

import ctypes
import errno
import fcntl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pyvmm.ioctl import IoctlError
from pyvmm.kvm import stop_signal
from pyvmm.kvm.device import AttrFd
from pyvmm.kvm.run_gate import RunGate
from pyvmm.memory import Mapping
from pyvmm.uapi.kvm import (
    KVM_EXIT_IO,
    KVM_EXIT_MMIO,
    KVM_GET_ONE_REG,
    KVM_GET_REG_LIST,
    KVM_REG_SIZE_MASK,
    KVM_REG_SIZE_SHIFT,
    KVM_RUN,
    KVM_SET_ONE_REG,
    kvm_one_reg,
    kvm_reg_list,
)
from pyvmm.uapi.native_arch import kvm_run

if TYPE_CHECKING:
    from pyvmm.kvm.exits import Exit


class Vcpu(AttrFd):
    """A vCPU, created by `Vm.create_vcpu`. One thread at a time runs it; any thread may `stop` it.

    Attributes:
        mapping: the mapping of the vCPU fd: ``struct kvm_run``, then the page of port I/O data
            and the ring of coalesced MMIO.
        kvm_run: the struct itself; all zero after `close`.
    """

    kind = "vcpu"

    def __init__(self, number: int, run_size: int, gate: RunGate) -> None:
        """Own fd `number`; map `run_size` bytes of it; pass `gate` before each ``KVM_RUN``.

        Raises `OSError`.
        """
        super().__init__(number)
        try:
            self.mapping = Mapping.of_file(number, run_size)
        except OSError:
            self.close()
            raise
        self._view = self.mapping.view()
        self.kvm_run = kvm_run.from_address(self.mapping.hva)
        self._runner = 0  # id of the thread that calls KVM_RUN, or 0
        self._stopping = False
        self._completing = False
        self._gate = gate
        stop_signal.install()

    def run(self) -> "Exit":
        """Enter the guest with ``KVM_RUN`` and return the exit.

        A failed ``KVM_RUN`` is returned as an exit too (`RunFailure`, `Interrupted`).
        """
        return next(self.exits())

    def exits(self) -> Iterator["Exit"]:
        """Yield the exits of repeated ``KVM_RUN`` calls, with minimal work per exit.

        Each ``next()`` enters the guest. Use the iterator in one thread.
        """
        # Imported late: commands that run no guest need none of the exit classes.
        from pyvmm.kvm.exits import decode, decode_failure

        self.fileno()  # raises if the vCPU is closed
        view, ioctl, gate = self._view, fcntl.ioctl, self._gate
        thread = threading.get_native_id()
        try:
            while True:
                # `VmFd.paused` closes the gate, then reads `_runner`: one sees the other.
                self._runner = thread
                if gate.closed:
                    self._runner = 0
                    gate.wait()
                    continue
                try:
                    # No third argument: fcntl.ioctl needs 2 µs to convert one.
                    ioctl(self._number, KVM_RUN)
                except OSError as error:
                    self._runner = 0
                    yield decode_failure(view, error.errno or 0)
                else:
                    self._runner = 0
                    yield decode(view)
        finally:
            self._runner = 0

    def answer(self, data: bytes) -> None:
        """Store the data of the read of the last exit (`Mmio` or `Io`) in ``struct kvm_run``.

        KVM copies it to the guest's register at the next `run`. Raises `ValueError` after any
        other exit.
        """
        if self.kvm_run.exit_reason == KVM_EXIT_MMIO:
            ctypes.memmove(self.kvm_run.mmio.data, data, min(len(data), 8))
        elif self.kvm_run.exit_reason == KVM_EXIT_IO:
            io = self.kvm_run.io
            size = io.size * io.count
            ctypes.memmove(self.mapping.hva + io.data_offset, data, min(len(data), size))
        else:
            raise ValueError("the last exit is neither MMIO nor port I/O")

    def complete_exit(self) -> None:
        """Complete the operation of the last exit without entering the guest.

        KVM writes the register of a read and skips the instruction at the next ``KVM_RUN``
        (Documentation/virt/kvm/api.rst, KVM_EXIT_MMIO), which would overwrite registers set
        before. Call this first, then set registers.
        """
        self._completing = True
        self.kvm_run.immediate_exit = 1
        self.run()
        self._completing = False
        self.unkick()

    def stop(self) -> None:
        """Make the current or next `run`, in any thread, return `Interrupted` immediately.

        The signal ends a ``KVM_RUN`` in progress. ``immediate_exit`` covers the time before
        ``KVM_RUN``, when the signal would be lost. A ``KVM_RUN`` that is `blocked_in` the kernel
        returns only when the kernel has what it waits for.
        """
        self._stopping = True
        self.kick()

    @property
    def blocked_in(self) -> str | None:
        """Return the kernel function in which ``KVM_RUN`` sleeps and only SIGKILL ends it, or None.

        On arm64, a missing page that a userfaultfd watches is "handle_userfault": KVM faults it in
        without FOLL_INTERRUPTIBLE (__kvm_faultin_pfn in virt/kvm/kvm_main.c), which x86 passes. To
        end the wait, resolve or poison the page, unregister the range, or close the userfaultfd.
        """
        task = Path(f"/proc/self/task/{self._runner}")
        try:
            state = (task / "stat").read_text().rpartition(")")[2].split()[0]
            return (task / "wchan").read_text() if state == "D" else None
        except OSError:  # no thread is in `run`
            return None

    @property
    def stopping(self) -> bool:
        """Return True between `stop` and `resume`."""
        return self._stopping

    def resume(self) -> None:
        """Cancel a `stop`: let `run` enter the guest again."""
        self._stopping = False
        self.unkick()

    def kick(self) -> None:
        """Make the current or next `run` return `Interrupted`, until `unkick`."""
        self.kvm_run.immediate_exit = 1
        if runner := self._runner:
            stop_signal.send(runner)

    def unkick(self) -> None:
        """Cancel a `kick`, but neither a `stop` nor a `complete_exit`."""
        self.kvm_run.immediate_exit = 0
        if self._stopping or self._completing:  # also if another thread called `stop` meanwhile
            self.kvm_run.immediate_exit = 1

    @property
    def in_kvm_run(self) -> bool:
        """Return True while a thread may be in ``KVM_RUN``."""
        return self._runner != 0

    def get_one_reg(self, register: int) -> int:
        """Read a register with ``KVM_GET_ONE_REG``, as an unsigned integer."""
        value = (ctypes.c_ubyte * register_size(register))()
        self.ioctl(KVM_GET_ONE_REG, kvm_one_reg(id=register, addr=ctypes.addressof(value)))
        return int.from_bytes(value, "little")

    def set_one_reg(self, register: int, value: int) -> None:
        """Write a register with ``KVM_SET_ONE_REG``. Raises `OverflowError` for a large `value`."""
        size = register_size(register)
        data = ctypes.create_string_buffer(value.to_bytes(size, "little"), size)
        self.ioctl(KVM_SET_ONE_REG, kvm_one_reg(id=register, addr=ctypes.addressof(data)))

    def reg_list(self) -> list[int]:
        """Return the ids of all registers of this vCPU (``KVM_GET_REG_LIST``)."""
        listing = kvm_reg_list()
        try:
            self.ioctl(KVM_GET_REG_LIST, listing)
        except IoctlError as error:
            if error.errno != errno.E2BIG:
                raise
        listing = kvm_reg_list.with_room(listing.n)(n=listing.n)
        self.ioctl(KVM_GET_REG_LIST, listing)
        return list(listing.reg)

    def close(self) -> None:
        """Unmap ``struct kvm_run`` and close the fd. No thread may be in `run`."""
        if hasattr(self, "kvm_run"):
            # A late `stop` in another thread must not write to unmapped memory.
            self.kvm_run = kvm_run()
            self._view.release()
            self.mapping.close()
        super().close()


def register_size(register: int) -> int:
    """Return the size of a register in bytes, from its one-reg id."""
    return 1 << ((register & KVM_REG_SIZE_MASK) >> KVM_REG_SIZE_SHIFT)
