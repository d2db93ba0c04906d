# SPDX-License-Identifier: GPL-2.0-only
"""Enter the sandbox. docs/safety.md lists what remains allowed."""

import threading

from pyvmm import seccomp
from pyvmm.sandbox import allowed_files, allowed_syscalls, landlock
from pyvmm.sandbox.privileges import disable_core_dumps, drop_capabilities


def unenforced() -> list[str]:
    """Return what this kernel cannot restrict, and the missing option, as clauses."""
    missing = []
    if not landlock.abi():
        missing.append("files are not restricted (no Landlock: CONFIG_SECURITY_LANDLOCK, lsm=)")
    if not seccomp.has_filters():
        missing.append("system calls are not restricted (no CONFIG_SECCOMP_FILTER)")
    return missing


def enter(linux_guest: bool = False) -> None:
    """Restrict this process for good. Parts that the kernel lacks are skipped: see `unenforced`.

    Open descriptors and mappings stay usable. With `linux_guest`, the process may also start
    threads for vCPUs, create VMs with interrupt controllers, and reset devices: Linux reboots.
    Raises `RuntimeError` if the process has several threads, since the restrictions apply to the
    calling thread and those that it starts.
    """
    # Not /proc/self/task: after KVM_RUN that has a kernel thread of KVM's (kvm-nx-lpage-recovery).
    if threading.active_count() > 1:
        raise RuntimeError("the sandbox restricts one thread: enter it before you start others")
    disable_core_dumps()
    seccomp.set_no_new_privs()
    if landlock.abi():
        landlock.restrict(allowed_files.rights(linux_guest))
    drop_capabilities()
    if seccomp.has_filters():
        seccomp.install_filter(allowed_syscalls.program(linux_guest))
