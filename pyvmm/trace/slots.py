# SPDX-License-Identifier: GPL-2.0-only
"""The memslot timeline: what was registered where, over what, and what was flipped under it."""

from pyvmm.trace.events import Event, Ioctl, Mapping, Process


def concerns(event: Event) -> bool:
    """Does an event belong to the timeline?"""
    match event:
        case Ioctl():
            return event.name.startswith("KVM_SET_USER_MEMORY_REGION")
        case Mapping():
            return bool(event.slots)
        case Process():
            return event.what == "close" and event.text.startswith("vm")
    return False
