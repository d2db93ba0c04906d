# SPDX-License-Identifier: GPL-2.0-only
"""The system fd: ``/dev/kvm``, which creates VMs."""

from pyvmm.kvm.system_fd import SystemFd
from pyvmm.kvm.vm import Vm
from pyvmm.memory import PAGE_SIZE
from pyvmm.uapi.kvm import KVM_CAP_ARM_VM_IPA_SIZE, KVM_CREATE_VM, KVM_GET_VCPU_MMAP_SIZE

# To destroy a VM the kernel walks its IPA space in steps of the largest block that stage 2 maps
# (stage2_destroy_range in arch/arm64/kvm/mmu.c): 1 GiB, 32 MiB or 512 MiB for pages of 4, 16 or
# 64 KiB. These sizes are 262144 steps; 16 times as many take seconds on an emulated host.
_IPA_BITS = {4 << 10: 48, 16 << 10: 43, 64 << 10: 47}[PAGE_SIZE]


class System(SystemFd):
    """An open ``/dev/kvm``."""

    def create_vm(self, vm_type: int | None = None) -> Vm:
        """Create a VM with ``KVM_CREATE_VM``. Raises `IoctlError`.

        `vm_type` is the machine type. The default is 0, or on arm64 the largest IPA size up to 48
        bits (43 with pages of 16 KiB): KVM's default of 40 bits is too small for the BARs of a
        large GPU.
        """
        if vm_type is None:
            vm_type = min(self.check(KVM_CAP_ARM_VM_IPA_SIZE), _IPA_BITS)
        run_size = self.ioctl(KVM_GET_VCPU_MMAP_SIZE)
        return Vm(self.ioctl(KVM_CREATE_VM, vm_type), run_size, vm_type)
