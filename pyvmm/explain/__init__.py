# SPDX-License-Identifier: GPL-2.0-only
"""Explanations for another VMM: why its ioctl failed, and what KVM makes of its memory.

KVM does not return a VM's memslots, only the VMM's own process may call its ioctls, and no
interface shows whether a mapping is cacheable. So each finding says how it is known.

    failure      an ioctl, its arguments and its errno, as a person writes them
    slots_file   memslots read from a JSON file
    conditions   the conditions that could have made the ioctl fail
    catalogue    the causes by name: their conditions, what provokes them, what helps
    process      a running VMM: its descriptors, and the VMAs behind its memslots
    live         the next ioctl that KVM fails in a running VMM
"""
