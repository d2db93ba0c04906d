# SPDX-License-Identifier: GPL-2.0-only
"""The sandbox: rights that the process which runs a guest gives up before the first ``KVM_RUN``.

sandbox             enter the sandbox, and list what this kernel cannot enforce
landlock            restrict which files can be opened
allowed_files       the files that a run may still open
allowed_syscalls    the system calls that a run may still make
allowed_ioctls      the ioctls among them
privileges          drop capabilities, disable core dumps
"""

from pyvmm.sandbox.sandbox import enter, unenforced

__all__ = ["enter", "unenforced"]
