# SPDX-License-Identifier: GPL-2.0-only
"""Track the kernel objects (VMs, vCPUs, vfio devices, …) behind the tracees' file descriptors.

/proc/PID/fd gives the type of each descriptor, and kcmp(2) reports whether two descriptors share
one open file. So an object is recognized after dup(2), fork(2), execve(2) or SCM_RIGHTS without a
stop at any of these calls. An entry is kept until the descriptor is closed.
"""

import contextlib
import re
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

from pyvmm import libc
from pyvmm.trace.ptrace import SYSCALLS
from pyvmm.trace.run_page import RunPage

_KINDS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), kind)
    for pattern, kind in (
        (r"/dev/kvm", "system"),
        (r"anon_inode:kvm-vm", "vm"),
        (r"anon_inode:kvm-vcpu:(\d+)", "vcpu"),
        (r"anon_inode:kvm-v(?:cpu|m)-stats.*", "stats"),
        (r".*\[(?:kvm-gmem|guest_memfd)\].*", "guest-memfd"),
        (r"anon_inode:(kvm-.+)", "device"),
        (r"/dev/vfio/vfio", "vfio-container"),
        (r"/dev/vfio/devices/(vfio\d+)", "vfio-device"),
        (r"anon_inode:\[vfio-device\]", "vfio-device"),
        (r"/dev/vfio/((?:noiommu-)?\d+)", "vfio-group"),
        (r"/dev/iommu", "iommufd"),
    )
)
_VM_KINDS = {"vcpu", "device", "guest-memfd", "stats"}  # created by an ioctl on a VM
_MAX_ORPHANS = 16  # objects without a descriptor in the table, possibly in transit by SCM_RIGHTS

_KCMP_FILE = 0


@dataclass(eq=False)
class KernelObject:
    """A kernel object that a tracee has a descriptor of.

    Attributes:
        kind: the kind of fd, as `pyvmm.uapi` names it: "vm", "vcpu", "vfio-device".
        label: the name in the trace: "vm1", "vm1/vcpu0", "vm1/kvm-vfio", "0000:01:00.0".
        link: the target of its /proc/PID/fd symlink.
        vm: the VM that it belongs to, or None.
        device: the name of an in-kernel device, else `kind`; selects the device attributes.
        page: the mapped ``struct kvm_run`` of a vCPU, or None before its first use.
        index: the number of a vCPU, else -1.
        fds: the descriptors of the object, as (pid, fd).
    """

    kind: str
    label: str
    link: str
    vm: "KernelObject | None" = None
    device: str = ""
    page: RunPage | None = None
    index: int = -1
    fds: set[tuple[int, int]] = field(default_factory=set)

    def unmap(self) -> None:
        """Unmap the ``struct kvm_run``, if it is mapped."""
        if self.page:
            self.page.close()
            self.page = None


class FdTable:
    """The kernel objects of all tracees, by process and descriptor."""

    def __init__(self) -> None:
        """Create an empty table."""
        self._objects: dict[tuple[int, int], KernelObject] = {}
        self._orphans: deque[KernelObject] = deque(maxlen=_MAX_ORPHANS)
        self._label_counts: Counter[str] = Counter()

    def get(self, pid: int, fd: int) -> KernelObject | None:
        """Return the object of a descriptor; None for another file or a closed descriptor."""
        return self._objects.get((pid, fd)) or self._identify(pid, fd)

    def add(
        self, pid: int, fd: int, vm: KernelObject | None, name: str = ""
    ) -> KernelObject | None:
        """Add the new object that an ioctl has returned `fd` for; it belongs to `vm` if given.

        `name` is the label if the kernel has a better one than /proc: a device's PCI address.
        """
        self.close(pid, fd)
        link = _link(pid, fd)
        return self._create(pid, fd, link, vm, name) if link else None

    @property
    def open_vms(self) -> set[KernelObject | None]:
        """Return the VMs with a descriptor, or with one of a vCPU, a device or a guest_memfd."""
        return {o if o.kind == "vm" else o.vm for o in self._objects.values()}

    def close(self, pid: int, fd: int) -> list[KernelObject]:
        """Remove a closed descriptor. Return its object if it was the last one, in a list.

        The last descriptor of a vCPU also unmaps its ``struct kvm_run``.
        """
        target = self._objects.pop((pid, fd), None)
        if target is None:
            return []
        target.fds.discard((pid, fd))
        if target.fds:
            return []
        target.unmap()
        self._orphans.append(target)
        return [target]

    def close_range(self, pid: int, first: int, last: int) -> list[KernelObject]:
        """Remove the descriptors `first` to `last`, inclusive; return as `close` does."""
        fds = [fd for owner, fd in self._objects if owner == pid and first <= fd <= last]
        return [target for fd in fds for target in self.close(pid, fd)]

    def close_on_exec(self, pid: int) -> list[KernelObject]:
        """Remove the descriptors that execve(2) has closed; return as `close` does."""
        fds = [
            fd
            for (owner, fd), target in self._objects.items()
            if owner == pid and _link(pid, fd) != target.link
        ]
        return [target for fd in fds for target in self.close(pid, fd)]

    def close_process(self, pid: int) -> list[KernelObject]:
        """Remove all descriptors of a process that has ended; return as `close` does."""
        return self.close_range(pid, 0, 1 << 32)

    def unmap_all(self) -> None:
        """Unmap every ``struct kvm_run``."""
        for target in self._objects.values():
            target.unmap()

    def _identify(self, pid: int, fd: int) -> KernelObject | None:
        link = _link(pid, fd)
        if not link or not _kind(link)[0]:
            return None
        objects = list(dict.fromkeys(self._objects.values()))
        target = next((o for o in objects if o.link == link and _same_file(o, pid, fd)), None)
        if not target:
            # A descriptor may arrive by SCM_RIGHTS after the sender has closed its own.
            orphans = [o for o in self._orphans if o.link == link]
            if len(orphans) == 1 and orphans[0].kind in ("vm", *_VM_KINDS):
                target = orphans[0]
                self._orphans.remove(target)
        if target:
            self._insert(target, pid, fd)
            return target
        vms = [o for o in objects if o.kind == "vm"]
        return self._create(pid, fd, link, vms[0] if len(vms) == 1 else None, "")

    def _create(
        self, pid: int, fd: int, link: str, vm: KernelObject | None, name: str
    ) -> KernelObject | None:
        kind, number = _kind(link)
        if not kind:
            return None
        new = KernelObject(kind, "", link, vm if kind in _VM_KINDS else None, kind)
        if kind == "device":
            new.device = number
        if kind == "vcpu":
            new.index = int(number)
        new.label = name or self._label(new, number)
        self._insert(new, pid, fd)
        return new

    def _insert(self, target: KernelObject, pid: int, fd: int) -> None:
        target.fds.add((pid, fd))
        self._objects[pid, fd] = target

    def _label(self, new: KernelObject, number: str) -> str:
        if new.kind == "system":
            return "kvm"
        if new.kind == "vcpu":
            base = f"vcpu{number}"
        elif new.kind in ("device", "vfio-device") and number:
            base = number
        elif new.kind == "vfio-group":
            base = f"group{number}"
        else:
            base = new.kind.removeprefix("vfio-")
        label = f"{new.vm.label}/{base}" if new.vm else base
        if new.kind == "vcpu":
            return label
        self._label_counts[label] += 1
        count = self._label_counts[label]
        return f"{label}{count}" if count > 1 or new.kind == "vm" else label


def _link(pid: int, fd: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/fd/{fd}").readlink())
    except OSError:
        return ""


def _kind(link: str) -> tuple[str, str]:
    """Return the kind of fd, and the number or name in its link; ("", "") for other files."""
    for pattern, kind in _KINDS:
        if match := pattern.fullmatch(link):
            return kind, match[1] if match.lastindex else ""
    return "", ""


def _same_file(target: KernelObject, pid: int, fd: int) -> bool:
    """Return True if kcmp(2) finds the same open file. All of /dev/kvm count as one object."""
    if target.kind == "system":
        return True
    for owner, other in target.fds:
        with contextlib.suppress(OSError):
            if libc.syscall(SYSCALLS["kcmp"], pid, owner, _KCMP_FILE, fd, other) == 0:
                return True
    return False
