# SPDX-License-Identifier: GPL-2.0-only
"""What KVM makes of host memory, VMA by VMA: what a guest gets there, and what fails."""

from collections.abc import Iterator
from dataclasses import dataclass

from pyvmm.explain.finding import Finding
from pyvmm.explain.host import Host
from pyvmm.explain.slots import ToldSlot
from pyvmm.kvm.rejection import CACHEABLE_PFNMAP
from pyvmm.memory.vma import Vma, vmas

# smaps prints a flag that it has no name for as this. VM_ALLOW_ANY_UNCACHED, which vfio-pci sets
# on its BARs and KVM/arm64 looks at, is one of those.
_UNNAMED = "??"
_VFIO = ("/dev/vfio/devices/", "anon_inode:[vfio-device]")


@dataclass(frozen=True)
class Piece:
    """`size` bytes of a memslot (or of a process, then `gpa` is None) that one VMA backs, or none.

    `gpa`, `hva` and `size` are in bytes.
    """

    slot: int | None
    gpa: int | None
    hva: int
    size: int
    vma: Vma | None
    findings: tuple[Finding, ...]


def pieces(slot: ToldSlot, pid: int | str, host: Host) -> Iterator[Piece]:
    """A memslot's range, cut where its VMAs begin and end. Raises `OSError`."""
    at, end = slot.hva, slot.hva + slot.size
    for vma in [*vmas(slot.hva, slot.size, pid), None]:
        start = min(vma.start, end) if vma else end
        if at < start:
            yield _piece(slot, at, start, None, host)
        if vma:
            at = max(at, start)
            yield _piece(slot, at, min(vma.end, end), vma, host)
            at = min(vma.end, end)


def _piece(slot: ToldSlot, start: int, end: int, vma: Vma | None, host: Host) -> Piece:
    findings = tuple(judge(vma, host, readonly=slot.readonly))
    return Piece(slot.number, slot.gpa + start - slot.hva, start, end - start, vma, findings)


def judge(vma: Vma | None, host: Host, *, readonly: bool = False) -> Iterator[Finding]:
    """What a guest has of it: what fails, the stage-2 memory type, whether it can be executed."""
    if vma is None:
        yield Finding("hva-unmapped", "known", "nothing is mapped: any access fails with EFAULT")
        return
    if "r" not in vma.perms:
        yield Finding("hva-no-access", "known", f"mapped {vma.perms}: any access fails with EFAULT")
        return
    if "w" not in vma.perms and not readonly:
        yield Finding("hva-read-only", "known", f"mapped {vma.perms}: a write fails with EFAULT")
    if vma.pfnmap and host.on_arm64:
        yield from _device_memory(vma, host)
    elif vma.pfnmap:
        yield Finding("stage-2", "known", "device memory (PFNMAP), which x86's KVM takes as it is")
    else:
        kind = "Normal-WB in stage 2" if host.on_arm64 else "memory, write-back"
        yield Finding("stage-2", "known", kind)


def _device_memory(vma: Vma, host: Host) -> Iterator[Finding]:
    """PFNMAP on arm64: what user_mem_abort in arch/arm64/kvm/mmu.c looks at, and we cannot."""
    obstacle = host.why_no_cacheable_pfnmap()
    cacheable = "registering it fails with EINVAL" if obstacle else "Normal-WB in stage 2"
    if _UNNAMED in vma.flags:
        why = (
            "Normal-NC in stage 2, if the flag that smaps has no name for (??) is "
            "VM_ALLOW_ANY_UNCACHED, as on vfio-pci's BARs; it is not cacheable then"
        )
    elif vma.path.startswith(_VFIO):
        why = (
            "a vfio device's, and smaps has no flag without a name (??): not mapped by vfio-pci, "
            "but by a driver of its own. Where that maps it cacheable, as nvgrace does usemem, "
            f"{cacheable}; else Device-nGnRE in stage 2"
        )
    else:
        why = f"Device-nGnRE in stage 2, unless it is mapped cacheable: then {cacheable}"
    yield Finding("stage-2", "inferred", why)
    if obstacle and _UNNAMED not in vma.flags:
        yield Finding(
            CACHEABLE_PFNMAP,
            "inferred",
            "if it is mapped cacheable, and came there after the memslot, an access is a bare "
            f"EFAULT: {obstacle}",
        )
    yield Finding("exec-from-device", "known", "a fetch from device memory fails with ENOEXEC")
