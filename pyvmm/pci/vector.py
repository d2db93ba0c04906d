# SPDX-License-Identifier: GPL-2.0-only
"""One interrupt vector: an eventfd that vfio signals and KVM injects."""

import os
import select

from pyvmm.closeable import Closeable
from pyvmm.kvm.eventfds import attach_irqfd, detach_irqfd
from pyvmm.kvm.vm import Vm
from pyvmm.pci.gsi_routes import GsiRoutes


class Vector(Closeable):
    """An eventfd with a GSI of its own.

    While it is detached, its interrupts stay pending in the eventfd; `attach` injects them.

    Attributes:
        eventfd: the descriptor that vfio signals.
        gsi: its GSI, to be routed before `attach`.
        message: the address and data that `gsi` is routed to, or None.
        attached: True if KVM injects the interrupts.
    """

    def __init__(self, vm: Vm, routes: GsiRoutes) -> None:
        """Create the eventfd, detached."""
        self._vm, self._routes = vm, routes
        self.eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.gsi = routes.take()
        self.message: tuple[int, int] | None = None
        self.attached = False

    def route(self, address: int, data: int, device_id: int) -> None:
        """Route the vector to an MSI, unless it is routed to it."""
        if self.message != (address, data):
            self._routes.route_msi(self.gsi, address, data, device_id)
            self.message = address, data

    def attach(self, resample: int | None = None) -> None:
        """Let KVM inject the interrupt; `resample` is that of `kvm.eventfds.irqfd`. Idempotent."""
        if not self.attached:
            attach_irqfd(self._vm, self.eventfd, self.gsi, resample)
            self.attached = True

    def detach(self) -> None:
        """Keep interrupts in the eventfd. Idempotent."""
        if self.attached:
            detach_irqfd(self._vm, self.eventfd, self.gsi)
            self.attached = False

    @property
    def pending(self) -> bool:
        """Return True if the vector is detached and has an interrupt."""
        return not self.attached and bool(select.select([self.eventfd], [], [], 0)[0])

    def close(self) -> None:
        """Detach the vector, remove its route and close the eventfd. Idempotent."""
        if self.eventfd >= 0:
            self.detach()
            self._routes.release(self.gsi)
            os.close(self.eventfd)
            self.eventfd = -1
