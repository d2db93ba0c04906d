# SPDX-License-Identifier: GPL-2.0-only
"""Host virtual memory: owned mappings, and the kernel's view of any address.

::

    mapping      owned ranges of host virtual memory
    placements   the mmap calls made in such a range, as a record
    peek         reads and writes that fail instead of raising SIGBUS or SIGSEGV
    vma          VMAs with their flags, from /proc/PID/smaps
    procmap      the VMA at or above one address (PROCMAP_QUERY)
    pagemap      the state of one page, from /proc/PID/pagemap
    backing_file, hugetlb_pool, memory_cgroup
                 where a page comes from, and the limits of that
    suspect_pages
                 pages of a VMA that a guest may be unable to access
"""

from pyvmm.memory.mapping import (
    PAGE_SIZE,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    Backing,
    Mapping,
    access_ok,
    round_up,
)

__all__ = [
    "PAGE_SIZE",
    "PROT_NONE",
    "PROT_READ",
    "PROT_WRITE",
    "Backing",
    "Mapping",
    "access_ok",
    "round_up",
]
