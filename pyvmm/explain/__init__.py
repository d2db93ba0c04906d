# SPDX-License-Identifier: GPL-2.0-only
"""The reasoning by itself, for someone else's VMM: what KVM makes of its memory, and why it fails.

A VMM's memslots cannot be read back, its ioctls are its own to call, and no interface tells a
mapping's cacheability. So each `Finding` says how it is known.

    finding    the words: known, inferred, impossible
    host       what this kernel and CPU answer
    slots      memslots out of a file
    question   an ioctl, its arguments and its errno, as a person writes them
    memslots   what could have made ``KVM_SET_USER_MEMORY_REGION`` fail
    running    what could have made ``KVM_RUN`` fail
    backing    what KVM makes of one VMA
    process    all of that for a running VMM
"""
