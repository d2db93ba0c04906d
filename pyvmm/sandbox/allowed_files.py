# SPDX-License-Identifier: GPL-2.0-only
"""The files that a run may still open, with their Landlock rights."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from pyvmm.kvm.system_fd import DEVICE as KVM
from pyvmm.sandbox.landlock import DEVICE, READ, WRITE

_PACKAGE = Path(__file__).parents[1]


def rights(linux_guest: bool) -> Mapping[Path, int]:
    """Return the rights by path.

    * ``/dev/kvm``: a VM made for the purpose shows whether KVM rejects a memslot.
    * ``/proc/PID`` of this process: maps, smaps and pagemap, which explain a fault.
    * The pools of huge pages, and memory limits of control groups, which explain it, too.
    * On x86, the parameters ept and npt, which decide the width of guest physical addresses.
    * Python's modules and shared libraries, which are imported where they are used.
    * For a Linux guest, ``/proc/interrupts``, which counts its devices' interrupts.
    * ``/dev/null``, which replaces a closed stdout.
    """
    readable = [
        Path("/proc", str(os.getpid())),
        Path("/sys/kernel/mm/hugepages"),
        Path("/sys/fs/cgroup"),
        Path("/sys/module/kvm_intel/parameters"),
        Path("/sys/module/kvm_amd/parameters"),
        *_code(),
    ]
    if linux_guest:
        readable.append(Path("/proc/interrupts"))
    return {
        **dict.fromkeys(readable, READ),
        KVM: DEVICE,
        Path(os.devnull): READ | WRITE,
    }


def _code() -> list[Path]:
    """Return the directories of Python, of its packages, of pyvmm, and of shared libraries."""
    packages = [Path(p) for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
    compiled = [Path(sys.pycache_prefix)] if sys.pycache_prefix else []
    libraries = [Path("/lib"), Path("/usr/lib"), Path("/etc/ld.so.cache")]
    return [Path(sys.base_prefix, "lib"), *packages, _PACKAGE, *compiled, *libraries]
