# SPDX-License-Identifier: GPL-2.0-only
"""irqfd, ioeventfd and GSI routing: events between user space and a VM without an exit."""

import contextlib
import os
from collections.abc import Iterator

from pyvmm.kvm.vm import Vm
from pyvmm.uapi.kvm import (
    KVM_IOEVENTFD,
    KVM_IOEVENTFD_FLAG_DATAMATCH,
    KVM_IOEVENTFD_FLAG_DEASSIGN,
    KVM_IOEVENTFD_FLAG_PIO,
    KVM_IRQFD,
    KVM_IRQFD_FLAG_DEASSIGN,
    KVM_IRQFD_FLAG_RESAMPLE,
    KVM_SET_GSI_ROUTING,
    kvm_ioeventfd,
    kvm_irq_routing,
    kvm_irq_routing_entry,
    kvm_irqfd,
)

_STEP = 32


@contextlib.contextmanager
def irqfd(vm: Vm, eventfd: int, gsi: int, resample: int | None = None) -> Iterator[None]:
    """Attach an eventfd to interrupt `gsi` with ``KVM_IRQFD``; detach it at the end.

    A write to `eventfd` injects the interrupt. With `resample`, a second eventfd, the interrupt
    is level-triggered: when the guest acknowledges it, KVM deasserts it and signals `resample`.
    Raises `IoctlError`.
    """
    attach_irqfd(vm, eventfd, gsi, resample)
    try:
        yield
    finally:
        detach_irqfd(vm, eventfd, gsi)


def attach_irqfd(vm: Vm, eventfd: int, gsi: int, resample: int | None = None) -> None:
    """Attach an eventfd as `irqfd` does; KVM injects at once if `eventfd` is not 0."""
    request = kvm_irqfd(fd=eventfd, gsi=gsi)
    if resample is not None:
        request.flags, request.resamplefd = KVM_IRQFD_FLAG_RESAMPLE, resample
    vm.ioctl(KVM_IRQFD, request)


def detach_irqfd(vm: Vm, eventfd: int, gsi: int) -> None:
    """Detach an eventfd from interrupt `gsi`."""
    vm.ioctl(KVM_IRQFD, kvm_irqfd(fd=eventfd, gsi=gsi, flags=KVM_IRQFD_FLAG_DEASSIGN))


@contextlib.contextmanager
def ioeventfd(
    vm: Vm, address: int, size: int, *, match: int | None = None, port: bool = False
) -> Iterator[int]:
    """Yield an eventfd that guest writes to `address` signal without an exit (``KVM_IOEVENTFD``).

    `address` is a GPA, or with `port` an x86 port. `size` is 1, 2, 4 or 8 bytes, or 0 for any
    width. With `match`, only writes of that value signal. The eventfd is closed at the end.
    Raises `IoctlError`.
    """
    eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    flags = KVM_IOEVENTFD_FLAG_PIO if port else 0
    flags |= KVM_IOEVENTFD_FLAG_DATAMATCH if match is not None else 0
    request = kvm_ioeventfd(datamatch=match or 0, addr=address, len=size, fd=eventfd, flags=flags)
    try:
        vm.ioctl(KVM_IOEVENTFD, request)
        try:
            yield eventfd
        finally:
            request.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN
            vm.ioctl(KVM_IOEVENTFD, request)
    finally:
        os.close(eventfd)


def set_gsi_routing(vm: Vm, entries: list[kvm_irq_routing_entry]) -> None:
    """Replace the GSI routing table (GSI to irqchip pin or MSI) with ``KVM_SET_GSI_ROUTING``."""
    # In steps: each number of entries is a class of its own.
    table = kvm_irq_routing.with_room(-(-len(entries) // _STEP) * _STEP)(nr=len(entries))
    table.entries[: len(entries)] = entries
    vm.ioctl(KVM_SET_GSI_ROUTING, table)
