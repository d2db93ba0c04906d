# SPDX-License-Identifier: GPL-2.0-only
"""Faults at RAM that a driver maps: by page frame number (VM_PFNMAP), as the buffers of GPUs are.

A VMM with virtio-gpu maps them behind memslots. KVM faults them in with one handle_mm_fault
(hva_to_pfn_remapped in virt/kvm/kvm_main.c). Where the driver has ``pfn_mkwrite``, as drm-shmem has
since Linux 7.1, that leaves a read-only PTE, and a guest write fails.

Not provoked: buffers of TTM, whose tail pages have no reference count (hva_to_pfn_remapped fails in
Linux 6.12). They need a GPU whose driver uses TTM, and the lab emulates none.
"""

import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from pyvmm.errors import SkippedError
from pyvmm.ioctl import Fd
from pyvmm.memory import PAGE_SIZE, Mapping
from pyvmm.memory.vma import vmas
from pyvmm.provoke import dma_buffers, fixed_mmap
from pyvmm.provoke.testbed import TARGET_GPA, TARGET_SIZE, Provocation, Testbed

_SOL_PACKET = 263  # linux/socket.h
_PACKET_RX_RING = 5  # linux/if_packet.h
_FRAME = 2048  # bytes

_STR_X4_X2 = 0xF9000044
_HUGE = PAGE_SIZE * PAGE_SIZE // 8  # bytes that a PMD maps: a table of 8-byte entries is a page
_BY_WRITABLE_PTES = "kernels before 7.1, whose drm-shmem has no pfn_mkwrite"
_BY_FWB_AND_DIC = "a CPU with FWB and DIC, and kernels before 6.17"
_SHMEM_ENABLED = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")


def _register(
    testbed: Testbed,
    allocate: Callable[[int], Fd],
    size: int = TARGET_SIZE,
    *,
    at: int = PAGE_SIZE,
    align: int = PAGE_SIZE,
) -> Mapping:
    """Register a new dma-buf at `TARGET_GPA`; return its mapping, which it fills from byte `at`."""
    buffer = testbed.stack.enter_context(allocate(size))
    memory = testbed.stack.enter_context(Mapping(at + size, align=align))
    memory.place(buffer.fileno(), 0, at=at)
    testbed.machine.vm.memslots.add(TARGET_GPA, memory, at=at)
    testbed.map_target()
    return memory


def _write_first(testbed: Testbed) -> None:
    _register(testbed, dma_buffers.of_vgem)
    testbed.write()


def _write_first_unaligned(testbed: Testbed) -> None:
    _register(testbed, dma_buffers.of_vgem)
    testbed.execute([_STR_X4_X2], (0, 0, TARGET_GPA + 4))


def _write_after_a_read(testbed: Testbed) -> None:
    _register(testbed, dma_buffers.of_vgem).read(PAGE_SIZE, 4)
    testbed.write()


def _write_after_a_write(testbed: Testbed) -> None:
    _register(testbed, dma_buffers.of_vgem).write(PAGE_SIZE, b"anything")
    testbed.write()


def _write_huge(testbed: Testbed) -> None:
    _use_huge_shmem(testbed)
    _register(testbed, dma_buffers.of_vgem, _HUGE, at=0, align=_HUGE)
    testbed.write()


def _write_huge_unaligned(testbed: Testbed) -> None:
    _use_huge_shmem(testbed)
    _register(testbed, dma_buffers.of_vgem, _HUGE, align=_HUGE)
    testbed.write()


def _use_huge_shmem(testbed: Testbed) -> None:
    """Make the kernel's internal tmpfs, which backs drm-shmem, use huge pages for this run."""
    try:
        before = _SHMEM_ENABLED.read_text().partition("[")[2].partition("]")[0]
        _SHMEM_ENABLED.write_text("always")
    except OSError as error:
        raise SkippedError(
            f"{_SHMEM_ENABLED}: {os.strerror(error.errno or 0)}: it needs root, and a kernel with "
            "CONFIG_TRANSPARENT_HUGEPAGE"
        ) from None
    testbed.stack.callback(_SHMEM_ENABLED.write_text, before)


def _write_cacheable(testbed: Testbed, allocate: Callable[[int], Fd]) -> None:
    _register(testbed, allocate)
    testbed.write()


def _replace(testbed: Testbed, allocate: Callable[[int], Fd]) -> None:
    """Map a dma-buf over registered anonymous memory."""
    buffer = testbed.stack.enter_context(allocate(TARGET_SIZE))
    fixed_mmap.map_file(testbed.add_anonymous(), TARGET_SIZE, buffer.fileno())
    testbed.write()


def _write_mixedmap(testbed: Testbed) -> None:
    """Map a packet socket's ring, as vm_insert_page() does, over registered memory."""
    ring = struct.pack("4I", TARGET_SIZE, 1, _FRAME, TARGET_SIZE // _FRAME)  # struct tpacket_req
    try:
        packets = testbed.stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
        packets.setsockopt(_SOL_PACKET, _PACKET_RX_RING, ring)
    except OSError as error:
        raise SkippedError(
            f"AF_PACKET: {os.strerror(error.errno or 0)}: it needs root, and a kernel with "
            "CONFIG_PACKET"
        ) from None
    hva = testbed.add_anonymous()
    fixed_mmap.map_file(hva, TARGET_SIZE, packets.fileno())
    if not vmas(hva, PAGE_SIZE)[0].mixedmap:
        raise SkippedError("this kernel maps a packet socket's ring without VM_MIXEDMAP")
    testbed.write()


PROVOCATIONS = (
    Provocation(
        "drm-shmem",
        "a write to drm-shmem memory that nobody has touched",
        "pfnmap-not-writable",
        _write_first,
        resolved_by=_BY_WRITABLE_PTES,
    ),
    Provocation(
        "drm-shmem-unaligned",
        "an unaligned STR to such memory",
        "pfnmap-not-writable",
        _write_first_unaligned,
        resolved_by=_BY_WRITABLE_PTES,
    ),
    Provocation(
        "drm-shmem-read",
        "a write to drm-shmem memory that the VMM has read",
        "pfnmap-not-writable",
        _write_after_a_read,
        resolved_by=_BY_WRITABLE_PTES,
    ),
    Provocation(
        "drm-shmem-written",
        "a write to drm-shmem memory that the VMM has written",
        None,  # the VMM's write makes the PTE writable: wp_pfn_shared calls pfn_mkwrite
        _write_after_a_write,
    ),
    Provocation(
        "drm-shmem-huge",
        "a write to a huge page of drm-shmem memory",
        None,  # drm_gem_shmem_any_fault inserts a writable PMD for a write
        _write_huge,
    ),
    Provocation(
        "drm-shmem-huge-unaligned",
        "a write to such a page at an HVA that no PMD can map",
        "pfnmap-not-writable",
        _write_huge_unaligned,
        resolved_by=_BY_WRITABLE_PTES,
    ),
    Provocation(
        "udmabuf",
        "a memslot over a udmabuf, and a write",
        "cacheable-pfnmap-unsupported",
        lambda testbed: _write_cacheable(testbed, dma_buffers.of_udmabuf),
        resolved_by=_BY_FWB_AND_DIC,
    ),
    Provocation(
        "udmabuf-flipped",
        "mmap(MAP_FIXED) of a udmabuf over registered anonymous memory, and a write",
        None,  # kvm_s2_fault_pin_pfn rejects cacheable PFNMAP only if it is no RAM
        lambda testbed: _replace(testbed, dma_buffers.of_udmabuf),
    ),
    Provocation(
        "dma-heap",
        "a memslot over memory of the system heap (dma-buf), and a write",
        "cacheable-pfnmap-unsupported",
        lambda testbed: _write_cacheable(testbed, dma_buffers.of_system_heap),
        resolved_by=_BY_FWB_AND_DIC,
    ),
    Provocation(
        "dma-heap-flipped",
        "mmap(MAP_FIXED) of such memory over registered anonymous memory, and a write",
        None,
        lambda testbed: _replace(testbed, dma_buffers.of_system_heap),
    ),
    Provocation(
        "mixedmap",
        "mmap(MAP_FIXED) of VM_MIXEDMAP memory, a packet socket's ring, and a write",
        None,  # it is RAM: get_user_pages finds the pages
        _write_mixedmap,
    ),
)
