# SPDX-License-Identifier: GPL-2.0-only
"""What is behind a guest physical address now; each thing is found out when it is asked for."""

import os
import stat
from collections.abc import Callable
from functools import cached_property

from pyvmm.arch.guest_access import AccessKind
from pyvmm.errors import PyvmmError
from pyvmm.faults.board import Board, page_of
from pyvmm.ioctl import IoctlError
from pyvmm.kvm.memslots import Memslot, MemslotError
from pyvmm.kvm.rejection import CACHEABLE_PFNMAP
from pyvmm.kvm.system import System
from pyvmm.memory import PAGE_SIZE, PROT_NONE, PROT_READ, PROT_WRITE, Backing
from pyvmm.memory.peek import peek
from pyvmm.memory.placements import Placement
from pyvmm.memory.procmap import MapsEntry, find_vma
from pyvmm.memory.vma import Vma, vmas
from pyvmm.uapi.kvm import KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED, KVM_CAP_ARM_VM_IPA_SIZE

# Bits of IPA space. Of arm64, which alone is asked; the kernel walks it all to end a VM.
_SMALLEST_VM = 32


class Evidence:
    """The host's side of an `access` at `gpa`.

    Attributes:
        slot: the memslot there, None where there is none.
        page: HVA of the page behind it; 0 without a slot.
    """

    def __init__(
        self,
        board: Board,
        gpa: int,
        access: AccessKind | Callable[[], AccessKind | None] | None,
        misfit: Callable[[], str | None] = lambda: None,
    ) -> None:
        """`access` may be a function, where it costs something to find out, as `misfit` does.

        That is `pyvmm.faults.report.Detail.misfit`.
        """
        self.board = board
        self.gpa = gpa
        self._access = access
        self._misfit = misfit
        self.slot: Memslot | None = board.vm.memslots.at(gpa)
        self.page = page_of(self.slot.hva_of(gpa)) if self.slot else 0

    @property
    def writes(self) -> bool:
        """Is the access a write, as far as is known?"""
        access = self._access() if callable(self._access) else self._access
        return access == "write"

    @property
    def misfit(self) -> str | None:
        """Why Device memory in stage 2 would not take the access, where stage 1 does; or None."""
        return self._misfit()

    @cached_property
    def broken(self) -> bool:
        """Can this page not be had, as far as user space sees it?

        A device's memory (PFNMAP) always looks so: what can be found out about it is for the
        rules to judge.
        """
        if self.slot is None:
            return False
        return not self.readable or (self.writes and not self.area_allows(PROT_WRITE))

    @cached_property
    def readable(self) -> bool:
        """Could KVM take the page by get_user_pages, to read it?"""
        return peek(self.page, 1, self.board.pid) is not None

    @cached_property
    def _next_area(self) -> MapsEntry | None:
        return find_vma(self.page, self.board.pid or "self")

    @property
    def area(self) -> MapsEntry | None:
        """What is mapped there. None for a guest_memfd slot, where KVM does not look at it."""
        if self.slot is None or self.slot.guest_memfd:
            return None
        found = self._next_area
        return found if found and found.start <= self.page else None

    def area_allows(self, prot: int) -> bool:
        """May what is mapped there be read (``PROT_READ``) or written (``PROT_WRITE``)?"""
        letters = ("r" if prot & PROT_READ else "") + ("w" if prot & PROT_WRITE else "")
        return self.area is not None and all(letter in self.area.perms for letter in letters)

    @cached_property
    def vma(self) -> Vma | None:
        """The same with its VmFlags."""
        return next(iter(vmas(self.page, PAGE_SIZE, self.board.pid or "self")), None)

    @property
    def pfnmap(self) -> bool:
        """Is it a device's memory, mapped by page frame number?"""
        return self.vma is not None and self.vma.pfnmap

    @property
    def backing(self) -> Backing | None:
        """The other way to what the memslot shows, where there is one."""
        return self.slot.memory.backing if self.slot and self.slot.memory else None

    @property
    def at(self) -> int:
        """The page, in bytes of the memslot's mapping."""
        assert self.slot
        assert self.slot.memory
        return self.page - self.slot.memory.hva

    @cached_property
    def placement(self) -> Placement | None:
        """What pyvmm placed at that page, whatever is there now."""
        if self.slot is None or self.slot.memory is None:
            return None
        within = self.slot.memory.placements.within(self.at, self.at + PAGE_SIZE)
        return next(within, None)

    @property
    def meant(self) -> int:
        """The protection that pyvmm placed it with."""
        return self.placement.prot if self.placement else PROT_NONE

    @property
    def replaced(self) -> bool:
        """Is what is mapped there not what pyvmm placed there?"""
        if self.area is None or self.placement is None:
            return False
        if self.placement.fd is None:
            return bool(self.area.path) and not self.area.path.startswith("[anon")
        offset = self.area.offset + self.page - self.area.start
        return not self.area.path or offset != self.placement.offset

    @property
    def file_size(self) -> int | None:
        """The size of the regular file that pyvmm placed there; None where it placed none."""
        if self.placement is None or self.placement.fd is None:
            return None
        try:
            status = os.fstat(self.placement.fd)
        except OSError:
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    @cached_property
    def span(self) -> tuple[int, int]:
        """The GPAs that share the page's fate: the memslot's part of its area, or of its hole.

        Of a hole, only what lies from the page up: where it begins cannot be asked.
        """
        if self.slot is None:
            return (page_of(self.gpa), page_of(self.gpa) + PAGE_SIZE)
        first, last = self.page, self.slot.hva + self.slot.size
        if self.area:
            first, last = max(self.area.start, self.slot.hva), min(self.area.end, last)
        elif self._next_area:
            last = min(self._next_area.start, last)
        shift = self.slot.gpa - self.slot.hva
        return (first + shift, last + shift)

    @cached_property
    def takes_cacheable_pfnmap(self) -> bool:
        """Does stage 2 take any PFNMAP, cacheable or not? Only arm64 can say no."""
        if not self.offers(KVM_CAP_ARM_VM_IPA_SIZE):
            return True
        return bool(self.offers(KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED))

    @cached_property
    def refused_as_cacheable(self) -> bool:
        """Is it a device's memory, mapped cacheable, where KVM does not take that?

        How it is mapped is for KVM alone to see. So it is asked, by a memslot of a VM made for
        that; where it cannot be, as for another process's memory, it is taken to be so.
        """
        if not self.pfnmap or self.takes_cacheable_pfnmap:
            return False
        if self.board.pid is not None or self.slot is None or self.slot.memory is None:
            return True
        try:
            with System.open() as system, system.create_vm(_SMALLEST_VM) as vm:
                vm.memslots.add(0, self.slot.memory, at=self.at, size=PAGE_SIZE)
        except PyvmmError as error:
            return not isinstance(error, MemslotError) or error.cause == CACHEABLE_PFNMAP
        return False

    @property
    def device_in_stage2(self) -> bool:
        """Does KVM map it as Device memory, as far as user space sees it?

        It does so with all PFNMAP memory that is not mapped cacheable, unless the VMA has
        VM_ALLOW_ANY_UNCACHED, which only vfio sets (user_mem_abort in arch/arm64/kvm/mmu.c) and
        smaps calls "??". What vfio has mapped without that is cacheable, where KVM takes that.
        """
        if self.vma is None or not self.pfnmap or "??" in self.vma.flags:
            return False
        if self.takes_cacheable_pfnmap:
            return "vfio" not in self.vma.path
        return not self.refused_as_cacheable

    def offers(self, capability: int) -> int:
        """What the VM answers to a capability; 0 where it does not know it."""
        try:
            return self.board.vm.check(capability)
        except IoctlError:
            return 0
