# SPDX-License-Identifier: GPL-2.0-only
"""A pytest plugin for short tests of KVM's uAPI on a real kernel.

::

    from pyvmm.testing import Mmio, SystemOff

    STORE = {"arm64": "str w1, [x0]", "x86_64": "mov %esi, (%rdi)"}

    def test_store_outside_all_memslots(guest):
        guest(STORE, 0x9000000, 7).expects(Mmio(gpa=0x9000000, write=True, value=7), SystemOff())

pytest loads the plugin if pyvmm is installed. Its fixtures, and the fixtures they depend on::

    kvm ─┬─ vm ─┬─ vcpu ───┐          /dev/kvm; an empty VM; a vCPU in its initial state
         │      └─ ram ────┴─ guest   a memslot of RAM; a runner of guests in assembly
         └─ caps                      the capabilities and features of this kernel and CPU
    iommu_mode ─ vfio_device          each of the five modes; an open vfio PCI device

A test gets only the fixtures that it requests: without `ram`, `vcpu` or `guest`, a `vm` has no
memslot and no vCPU. Without `iommu_mode`, `vfio_device` uses the best mode of the kernel.

Markers state further requirements. If one is not met, the test is skipped, and the reason tells
how to meet it::

    needs_arch("aarch64")            the architecture of KVM
    needs_cap("KVM_CAP_GUEST_MEMFD") a capability that is not 0
    needs_feature("fwb")             a feature of an arm64 CPU: fwb, dic, idc
    needs_device("grace")            one of the lab's devices, or a "vendor:device"

Expectations are `fails`, and every exit of `pyvmm.kvm.exits` by name, with any of its fields. The
report of a failed test shows the guest's instructions, registers, memslots and fault.

Options: ``--lab`` and ``--lab-*`` run the tests in the emulated arm64 host, ``--on ssh:HOST`` on
another machine, which gets a copy of pyvmm and of the tests' directory. With pytest-xdist, ``--lab
-n N`` boots N hosts: ``--dist loadfile`` splits the modules of one CPU and kernel over them; of
several CPUs or kernels, each worker boots one after the other. ``--kvm-headers`` loads the
definitions of a kernel tree, and ``--ktap`` writes results for kernel CI.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyvmm.testing.expect import Expected, Unexpected, fails

    __all__ = ["Expected", "Unexpected", "fails"]


def __getattr__(name: str) -> Any:
    # Imported on demand: pytest loads this package in every session, also for other projects.
    return getattr(import_module("pyvmm.testing.expect"), name)
