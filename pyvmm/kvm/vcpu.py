# SPDX-License-Identifier: GPL-2.0-only
"""The vCPU fd: run it, stop it, answer its exits, read and write its registers."""

import ctypes
import errno
import fcntl
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pyvmm.ioctl import IoctlError
from pyvmm.kvm import stop_signal
from pyvmm.kvm.device import AttrFd
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
    """Made by `Vm.create_vcpu`. One thread at a time runs it; any thread may `stop` it.

    Attributes:
        shared: ``struct kvm_run`` and, after it, the page of port I/O data and the ring of
            coalesced MMIO.
        state: the struct itself; blank once the vCPU is closed.
    """

    kind = "vcpu"

    def __init__(self, number: int, run_size: int) -> None:
        super().__init__(number)
        try:
            self.mapping = Mapping.of_file(number, run_size)
        except OSError:
            self.close()
            raise
        self._view = self.mapping.view()
        self.kvm_run = kvm_run.from_address(self.mapping.hva)
        self._runner = 0  # the thread that is in `run`
        self._stopping = False
        stop_signal.handle()

    def run(self) -> "Exit":
        """``KVM_RUN``: enter the guest until it needs user space; returns why it came back.

        Never raises for what the guest does: a failed ``KVM_RUN`` is an exit too.
        """
        return next(self.exits())

    def exits(self) -> Iterator["Exit"]:
        """`run` over and over, in one thread: what is done once an exit is done as little.

        The guest is entered when the next exit is asked for.
        """
        # Fifty classes, of which a command that only asks questions needs none.
        from pyvmm.kvm.exits import decode, decode_failure

        self.fileno()  # raises where the vCPU is closed
        view, ioctl = self._view, fcntl.ioctl
        self._runner = threading.get_native_id()
        try:
            while True:
                try:
                    # Without a third argument, which fcntl.ioctl takes 2 µs to look at.
                    ioctl(self._number, KVM_RUN)
                except OSError as error:
                    yield decode_failure(view, error.errno or 0)
                else:
                    yield decode(view)
        finally:
            self._runner = 0

    def answer(self, data: bytes) -> None:
        """Give the read that the last exit asked for (`Mmio` or `Io`) its bytes.

        KVM puts them into the guest's register at the next `run`.
        """
        if self.kvm_run.exit_reason == KVM_EXIT_MMIO:
            ctypes.memmove(self.kvm_run.mmio.data, data, min(len(data), 8))
        elif self.kvm_run.exit_reason == KVM_EXIT_IO:
            io = self.kvm_run.io
            size = io.size * io.count
            ctypes.memmove(self.mapping.hva + io.data_offset, data, min(len(data), size))
        else:
            raise ValueError("the last exit asked for no data")

    def complete_exit(self) -> None:
        """Let KVM finish what the last exit was about, and not enter the guest.

        It does so at the next ``KVM_RUN`` anyway (Documentation/virt/kvm/api.rst, KVM_EXIT_MMIO):
        it fills in the register of a read, and steps over the instruction. Registers that are to
        be set anew are set after that.
        """
        self.kvm_run.immediate_exit = 1
        self.run()
        self.kvm_run.immediate_exit = 0
        if self._stopping:  # meanwhile, perhaps
            self.kvm_run.immediate_exit = 1

    def stop(self) -> None:
        """Make `run` return `Interrupted` at once, in whichever thread it is, or at its next call.

        ``immediate_exit`` closes the gap between a caller's last check and its ``KVM_RUN``.
        """
        self._stopping = True
        self.kvm_run.immediate_exit = 1
        if runner := self._runner:
            stop_signal.send(runner)

    @property
    def stopping(self) -> bool:
        """Was `stop` called, and not taken back by `resume`?"""
        return self._stopping

    def resume(self) -> None:
        """Take back a `stop`: `run` enters the guest again."""
        self._stopping = False
        self.kvm_run.immediate_exit = 0

    def get_one_reg(self, register: int) -> int:
        """``KVM_GET_ONE_REG``: the register as an unsigned integer of its own size."""
        value = (ctypes.c_ubyte * register_size(register))()
        self.ioctl(KVM_GET_ONE_REG, kvm_one_reg(id=register, addr=ctypes.addressof(value)))
        return int.from_bytes(value, "little")

    def set_one_reg(self, register: int, value: int) -> None:
        """``KVM_SET_ONE_REG``. Raises `OverflowError` for a value that does not fit."""
        size = register_size(register)
        data = ctypes.create_string_buffer(value.to_bytes(size, "little"), size)
        self.ioctl(KVM_SET_ONE_REG, kvm_one_reg(id=register, addr=ctypes.addressof(data)))

    def reg_list(self) -> list[int]:
        """``KVM_GET_REG_LIST``: the ids of every register that this vCPU has."""
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
        """Unmap ``struct kvm_run`` and close the fd; no thread may be in `run`."""
        if hasattr(self, "kvm_run"):
            # A late `stop` from another thread must not write to what is no longer mapped.
            self.kvm_run = kvm_run()
            self._view.release()
            self.mapping.close()
        super().close()


def register_size(register: int) -> int:
    """The size in bytes that a one-reg id encodes."""
    return 1 << ((register & KVM_REG_SIZE_MASK) >> KVM_REG_SIZE_SHIFT)
