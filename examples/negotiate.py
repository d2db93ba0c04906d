# SPDX-License-Identifier: GPL-2.0-only
"""Negotiate: find out if a device's cacheable memory can be a memslot, and if not, why.

In March 2025 a KVM/arm64 maintainer asked for three things: the kernel tells user space whether
cacheable PFNMAP is supported; it handles such a fault only if user space has opted in; otherwise
it reports the fault. This example does the first. It queries the capability on the fd that
answers it, and shows the CPU features that the answer depends on.

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

        # 1. The capability is for a VM fd only. If the kernel knows it, /dev/kvm answers EINVAL.
        try:
            answer = f"{system.check(KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED)}: unknown capability"
        except IoctlError as error:
            answer = f"{errno_name(error.errno)}: known, but answered by a VM only"
        cacheable = vm.check(KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED)
        print(f"KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED on /dev/kvm: {answer}")
        print(f"KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED on the VM:   {cacheable}")

        # 2. It depends on two CPU features, in ID registers that a VMM can read.
        features = arch.features(vcpu)
        if features is None:
            print("This CPU is not arm64: any device memory can be a memslot.")
        elif obstacle := features.why_no_cacheable_pfnmap():
            print(f"The CPU: {obstacle}.")
        else:
            print("The CPU: it has FWB and DIC.")

        # 3. The report of an access that KVM cannot resolve.
        reports = vm.check(KVM_CAP_MEMORY_FAULT_INFO)
        print(f"KVM_CAP_MEMORY_FAULT_INFO on the VM: {reports}")
        print("A fault is reported with its address." if reports else "A fault is a bare EFAULT.")


if __name__ == "__main__":
    main()
