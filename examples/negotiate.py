# SPDX-License-Identifier: GPL-2.0-only
"""Ask before you map: can a device's cacheable memory be a memslot here, and if not, why?

The three things that a KVM/arm64 maintainer asked for in March 2025 are that the kernel tells
user space whether cacheable PFNMAP is supported, that it handles such a fault only where user
space has bought in, and that it reports the fault otherwise. This asks for the first, on the fd
that answers it, and shows where the CPU's part of the answer comes from.

    python examples/negotiate.py
    python -m pyvmm lab shell -- python3 examples/negotiate.py
"""

from pyvmm.arch.native import native
from pyvmm.errno_names import errno_name
from pyvmm.errors import as_command
from pyvmm.ioctl import IoctlError
from pyvmm.kvm import System
from pyvmm.uapi.kvm import KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED, KVM_CAP_MEMORY_FAULT_INFO


@as_command()
def main() -> None:
    arch = native()
    with System.open() as system, system.create_vm() as vm:
        vcpu = vm.create_vcpu()
        arch.prepare(system, vm, vcpu)

        # 1. The capability. It is a VM's: /dev/kvm answers EINVAL where the kernel knows it.
        try:
            told = f"{system.check(KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED)}: never heard of it"
        except IoctlError as error:
            told = f"{errno_name(error.errno)}: known, ask a VM"
        cacheable = vm.check(KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED)
        print(f"KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED on /dev/kvm: {told}")
        print(f"KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED on the VM:   {cacheable}")

        # 2. What it rests on: two features of the CPU, in registers that a VMM can read.
        features = arch.features(vcpu)
        if features is None:
            print("This CPU is not an arm64: any device memory can be a memslot.")
        elif obstacle := features.why_no_cacheable_pfnmap():
            print(f"The CPU: {obstacle}.")
        else:
            print("The CPU: it has FWB and DIC.")

        # 3. What happens to an access that KVM cannot resolve.
        reports = vm.check(KVM_CAP_MEMORY_FAULT_INFO)
        print(f"KVM_CAP_MEMORY_FAULT_INFO on the VM: {reports}")
        print("A fault is reported with its address." if reports else "A fault is a bare EFAULT.")


if __name__ == "__main__":
    main()
