# SPDX-License-Identifier: GPL-2.0-only
"""KVM: one module per kind of file descriptor, and the exits of a vCPU."""

from pyvmm.kvm.device import Device
from pyvmm.kvm.guest_memfd import GuestMemfd
from pyvmm.kvm.memslots import Memslot, Memslots
from pyvmm.kvm.system import System
from pyvmm.kvm.vcpu import Vcpu
from pyvmm.kvm.vm import Vm

__all__ = ["Device", "GuestMemfd", "Memslot", "Memslots", "System", "Vcpu", "Vm"]
