# SPDX-License-Identifier: GPL-2.0-only
"""What could have made ``KVM_SET_USER_MEMORY_REGION`` fail: every condition with that errno.

The conditions are `pyvmm.kvm.rejection`'s. Those that rest on the request alone are decided;
others rest on what only its process and its VM know, and are decided where that was given.
"""

from collections.abc import Callable
from dataclasses import dataclass

from pyvmm.explain.finding import Finding, Mark, in_order
from pyvmm.explain.host import Host
from pyvmm.explain.slots import ToldSlot
from pyvmm.kvm.rejection import CACHEABLE_PFNMAP, RULES, Request
from pyvmm.uapi.kvm import KVM_CAP_ARM_MTE, KVM_MEM_LOG_DIRTY_PAGES

_SMALLEST_IPA_BITS = 32  # KVM_VM_TYPE_ARM_IPA_SIZE takes no fewer


@dataclass(frozen=True)
class _Unseen:
    """What a condition rests on beside the request, and when that could matter at all.

    `told_by` is what would tell: "slots", "process", or None where nothing does.
    """

    told_by: str | None
    matters: Callable[[ToldSlot, Host], bool]
    why: str


def _has_size(slot: ToldSlot, host: Host) -> bool:
    return bool(slot.size)


def _has_memfd(slot: ToldSlot, host: Host) -> bool:
    return slot.guest_memfd is not None


_UNSEEN = {
    "no-such-slot": _Unseen(
        "slots", lambda slot, host: not slot.size, "size 0 removes a slot: if there was none"
    ),
    "changed-in-place": _Unseen(
        "slots",
        _has_size,
        "if the slot existed with another HVA, size, KVM_MEM_READONLY or guest_memfd",
    ),
    "overlap": _Unseen("slots", _has_size, "if another slot has some of these GPAs"),
    "guest-memfd-of-another-vm": _Unseen(
        None, _has_memfd, "if the guest_memfd was another VM's, or the fd is none"
    ),
    "guest-memfd-too-short": _Unseen(None, _has_memfd, "if the guest_memfd ends before the slot"),
    "guest-memfd-bound": _Unseen(
        None, _has_memfd, "if another slot has that part of the guest_memfd already"
    ),
    "guest-memfd-not-mappable": _Unseen(
        None,
        lambda slot, host: host.on_arm64 and slot.guest_memfd is not None,
        "if the guest_memfd was created without GUEST_MEMFD_FLAG_MMAP",
    ),
    "beyond-ipa-size": _Unseen(
        None,
        lambda slot, host: host.on_arm64 and slot.end > 1 << _SMALLEST_IPA_BITS,
        "if the VM was created with too few IPA bits for it",
    ),
    "memory-tagging": _Unseen(
        None,
        lambda slot, host: bool(host.on_arm64 and slot.size and host.check(KVM_CAP_ARM_MTE)),
        "if the VM has KVM_CAP_ARM_MTE enabled, and the memory cannot hold tags",
    ),
    "dirty-log-of-pfnmap": _Unseen(
        "process",
        lambda slot, host: host.on_arm64 and bool(slot.flags & KVM_MEM_LOG_DIRTY_PAGES),
        "if the memory is a device's (PFNMAP), whose dirty pages cannot be logged",
    ),
    CACHEABLE_PFNMAP: _Unseen(
        "process",
        lambda slot, host: bool(slot.size and host.why_no_cacheable_pfnmap()),
        "if the memory is a device's (PFNMAP) and mapped cacheable",
    ),
}


def could_be(host: Host, slot: ToldSlot, number: int, pid: int | None = None) -> list[Finding]:
    """Every condition that gives errno `number`, the likeliest first.

    `host` has the memslots that were there before, where they are known; `pid` is the process
    that asked, where it still has the mappings that it had then. Raises `OSError` where that
    process is gone or not ours to look at.
    """
    request = Request(host, slot, pid or "self")
    told = {"slots": host.memslots.known, "process": pid is not None}
    found: list[Finding] = []
    for name, code, rule in RULES:
        if code != number or any(finding.name == name for finding in found):
            continue
        unseen = _UNSEEN.get(name)
        seen = unseen is None or told.get(unseen.told_by or "", False)
        # A rule that looks at what was not given would take an empty VM, or us, for the answer.
        asked = seen or name == "beyond-ipa-size"
        broken = next(rule(request), None) if asked else None
        found.append(_finding(name, broken, unseen, seen, slot, host))
    return in_order([_what_remains(finding, host) for finding in _reached(found)])


def _reached(findings: list[Finding]) -> list[Finding]:
    """The kernel asks in this order, and asks no more once a condition has failed."""
    marks = [finding.mark for finding in findings]
    if "known" not in marks:
        return findings
    first = marks.index("known")
    why = f"the kernel did not come to it: {findings[first].name} is asked about before"
    later = (Finding(finding.name, "impossible", why) for finding in findings[first + 1 :])
    return [*findings[: first + 1], *later]


def _finding(
    name: str, broken: str | None, unseen: _Unseen | None, seen: bool, slot: ToldSlot, host: Host
) -> Finding:
    if broken and name == CACHEABLE_PFNMAP:
        return Finding(name, "inferred", broken)
    if broken:
        mark: Mark = "known" if seen else "inferred"
        return Finding(name, mark, broken)
    if unseen and not seen and unseen.matters(slot, host):
        return Finding(name, "inferred", unseen.why)
    if unseen and not unseen.matters(slot, host):
        return Finding(name, "impossible", "it does not concern this request, kernel or CPU")
    return Finding(name, "impossible", "the request does not break it")


def _what_remains(finding: Finding, host: Host) -> Finding:
    """Whether a PFNMAP VMA is cacheable is told by nothing, but by all else being in order."""
    obstacle = host.why_no_cacheable_pfnmap()
    if finding.name != CACHEABLE_PFNMAP or finding.mark != "inferred" or not obstacle:
        return finding
    why = f"{finding.why} ({obstacle}); that itself cannot be seen, and is what remains if no other"
    return Finding(finding.name, finding.mark, f"{why} condition holds")
