# SPDX-License-Identifier: GPL-2.0-only
"""The pytest plugin: tests of KVM's uAPI, ten lines each, on a real kernel.

::

    from pyvmm.testing import Mmio, SystemOff

    STORE = {"arm64": "str w1, [x0]", "x86_64": "mov %esi, (%rdi)"}

    def test_a_store_that_no_memslot_backs(guest):
        guest(STORE, 0x9000000, 7).expects(Mmio(gpa=0x9000000, write=True, value=7), SystemOff())

pytest loads it wherever pyvmm is installed. Its fixtures, each built from the one it hangs on::

    kvm ─┬─ vm ─┬─ vcpu ───┐          /dev/kvm; an empty VM; a vCPU that was not set up
         │      └─ ram ────┴─ guest   a memslot of RAM; assembly text in, typed exits out
         └─ caps                      what this kernel and CPU offer, asked once a session
    iommu_mode ─ vfio_device          each of the five modes; a PCI device that vfio has, opened

Only what a test asks for is made: `vm` has no memslot and no vCPU where the test names neither
`ram` nor `vcpu` nor `guest`, and `vfio_device` opens in the best mode where the test does not name
`iommu_mode`.

Markers, with what a test needs beyond that; where it is missing, the skip says how to get it::

    needs_arch("aarch64")            the architecture of KVM
    needs_cap("KVM_CAP_GUEST_MEMFD") a capability that is not 0
    needs_feature("fwb")             a feature of an arm64 CPU: fwb, dic, idc
    needs_device("grace")            one of the lab's devices, or a "vendor:device"

Expectations: `fails`, and every exit of `pyvmm.kvm.exits` by name, with as many of its fields as
matter. A test that fails shows the guest's instructions, registers, memslots and fault.

Options: ``--lab`` and its kin run the same tests in the emulated arm64 host,
``--kvm-headers`` loads a kernel tree's definitions, ``--ktap`` writes results for kernel CI.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyvmm.testing.expect import Expected, Unexpected, fails

    __all__ = ["Expected", "Unexpected", "fails"]


def __getattr__(name: str) -> Any:
    # Imported when a test does: pytest loads this package for everyone's tests.
    return getattr(import_module("pyvmm.testing.expect"), name)
