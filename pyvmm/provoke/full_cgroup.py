# SPDX-License-Identifier: GPL-2.0-only
"""A control group whose memory is used up, with this process in it."""

import os
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from pyvmm import libc
from pyvmm.closeable import Closeable
from pyvmm.errors import SkippedError
from pyvmm.memory import PAGE_SIZE
from pyvmm.memory.memory_cgroup import group_of, mount_point
from pyvmm.memory.vma import vmas

_ROOM, _CHUNK = 1 << 20, 64 << 10  # bytes for the filler, and of a write to it
_RELIEF = 512 << 10  # bytes that a report of the fault may use
_MADV_POPULATE_WRITE = 23  # asm-generic/mman-common.h
_OOM_SCORE_ADJ = Path("/proc/self/oom_score_adj")
_NEVER_KILL = "-1000"  # OOM_SCORE_ADJ_MIN: the kernel finds no victim, and the charge fails
_MOST = 16 * _ROOM  # bytes in the filler: without a limit, it would use up the host's memory
# A failed charge drains what other CPUs keep in stock, after a while (drain_all_stock), and reclaim
# makes room too.
_ROUNDS, _DRAINED = 4, 0.05  # seconds
_TIMEOUT = 60  # seconds until the limit is lifted if this process hangs at it


class FullCgroup(Closeable):
    """A control group with a memory limit, and this process in it until `close`.

    Another process lifts the limit at the end, or after a time limit: at the limit, a page fault
    in user mode retries for ever (pagefault_out_of_memory in mm/oom_kill.c).
    """

    def __init__(self) -> None:
        """Create the group. Raises `SkippedError` without its controller, or without root."""
        mount, before = mount_point(), group_of("self")
        if mount is None or before is None:
            raise SkippedError("no cgroup2 is mounted: mount -t cgroup2 none /sys/fs/cgroup")
        self._group = mount / f"pyvmm-{os.getpid()}"
        try:
            (mount / "cgroup.subtree_control").write_text("+memory")
            self._group.mkdir()
        except OSError as error:
            raise SkippedError(
                f"a control group with a memory limit: {os.strerror(error.errno or 0)}: it needs "
                "root, and a kernel with CONFIG_MEMCG"
            ) from None
        with ExitStack() as stack:
            stack.callback(self._group.rmdir)
            stack.callback(_OOM_SCORE_ADJ.write_text, _OOM_SCORE_ADJ.read_text())
            _OOM_SCORE_ADJ.write_text(_NEVER_KILL)
            stack.callback(_enter, mount / before.lstrip("/"))
            # Started before this process enters the group, so that it is not limited itself.
            lift = f"timeout {_TIMEOUT} cat; echo max >{self._group}/memory.max"
            lifter = subprocess.Popen(["sh", "-c", lift], stdin=subprocess.PIPE)
            stack.callback(lifter.communicate)
            self._filler = os.memfd_create("pyvmm-filler", os.MFD_CLOEXEC)
            stack.callback(os.close, self._filler)
            self._spare, self._zeros = _spare_heap(), memoryview(bytes(_CHUNK))
            _populate()
            _enter(self._group)
            used = int((self._group / "memory.current").read_text())
            (self._group / "memory.max").write_text(str(used + _ROOM))
            stack.callback(os.ftruncate, self._filler, 0)
            self._owned = stack.pop_all()

    def fill(self) -> None:
        """Use up the group's memory. Raises `SkippedError` if the limit is not in effect."""
        for _ in range(_ROUNDS):
            if not self._write_pages():
                return
            time.sleep(_DRAINED)

    def _write_pages(self) -> int:
        """Write pages until the kernel cannot charge another one; return the bytes written."""
        written, size = 0, _CHUNK
        while os.fstat(self._filler).st_size < _MOST:
            try:
                written += os.write(self._filler, self._zeros[:size])
            except OSError:  # ENOMEM
                if size == PAGE_SIZE:
                    return written
                size = PAGE_SIZE
        raise SkippedError(
            f"the control group takes more memory than its limit within {_TIMEOUT} s"
        )

    def relieved(self, handle: Callable[[Any], bool]) -> Callable[[Any], bool]:
        """Return a handler of exits that makes room for `handle`'s own memory first."""

        def handler(exit: object) -> bool:
            size = os.fstat(self._filler).st_size
            os.ftruncate(self._filler, max(size - _RELIEF, 0))
            return handle(exit)

        return handler

    def close(self) -> None:
        """Lift the limit, leave the group and remove it. Idempotent."""
        self._owned.close()


def _spare_heap() -> list[bytes]:
    """Return objects between which this process's heap has some MiB of free, resident memory.

    At the limit, Python then finds memory without a page fault.
    """
    small = [b"x" * (400 + n % 2) for n in range(10_000)]
    large = [b"x" * ((64 << 10) + n) for n in range(16)]
    return [*small[::50], large[-1]]


def _populate() -> None:
    """Make this process's own pages writable: after a fork(2), a write would need a new page."""
    for vma in vmas(0, 1 << 64):
        if vma.perms.startswith("rw") and vma.perms.endswith("p") and not vma.pfnmap:
            with suppress(OSError):
                libc.madvise(vma.start, vma.end - vma.start, _MADV_POPULATE_WRITE)


def _enter(group: Path) -> None:
    (group / "cgroup.procs").write_text(str(os.getpid()))
