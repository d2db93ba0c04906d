# SPDX-License-Identifier: GPL-2.0-only
"""The stage-2 memory type that KVM gives a VMA, judged from what user space can see.

arch/arm64/kvm/mmu.c decides it from the VMA and the page frame. One input has no interface: whether
vm_page_prot is cacheable. Another, whether the frame is RAM, is not looked up.
"""

from pyvmm.memory.vma import Vma
from pyvmm.why.condition import Finding
from pyvmm.why.facts import Host


def stage2_type(vma: Vma, host: Host) -> Finding:
    """Return the finding "stage-2": the memory type a guest gets for this VMA."""
    if host.arch != "arm64":
        if vma.pfnmap:
            why = "device memory (PFNMAP), which KVM on x86 maps with the VMA's memory type"
        else:
            why = "memory, write-back"
        return Finding("stage-2", "known", why)
    if not vma.pfnmap:
        return Finding("stage-2", "known", "Normal-WB in stage 2")
    if vma.any_uncached:
        return Finding(
            "stage-2",
            "inferred",
            "Normal-NC in stage 2, if the flag that smaps prints as ?? is VM_ALLOW_ANY_UNCACHED, "
            "as on vfio-pci's BARs; the mapping is not cacheable then",
        )
    cacheable = "Normal-WB in stage 2"
    if host.rejects_cacheable_pfnmap:
        cacheable = "KVM_SET_USER_MEMORY_REGION fails with EINVAL"
    if vma.is_bar and "vfio" in vma.path:
        why = (
            "a vfio device without VM_ALLOW_ANY_UNCACHED (?? in smaps), so not mapped by vfio-pci "
            "but by a variant driver. If it maps the memory cacheable, as nvgrace does usemem, "
            f"{cacheable}; else Device-nGnRE in stage 2"
        )
    elif vma.is_bar:
        why = f"Device-nGnRE in stage 2, unless the mapping is cacheable: then {cacheable}"
    else:
        why = (
            "Normal-WB in stage 2 if the memory is RAM (udmabuf, drm-shmem, dma-heap), else "
            f"Device-nGnRE, unless the mapping is cacheable: then {cacheable}"
        )
    return Finding("stage-2", "inferred", why)
