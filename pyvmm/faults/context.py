# SPDX-License-Identifier: GPL-2.0-only
"""The parts of a machine that its faults concern."""

from typing import NamedTuple

from pyvmm.arch.architecture import Architecture
from pyvmm.bus import Bus
from pyvmm.kvm.vcpu import Vcpu
from pyvmm.kvm.vm import Vm


class VcpuContext(NamedTuple):
    """A vCPU with its VM, and the bus of GPAs on which the VMM emulates devices."""

    vm: Vm
    vcpu: Vcpu
    arch: Architecture
    mmio: Bus
