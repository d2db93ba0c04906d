# SPDX-License-Identifier: GPL-2.0-only
"""Which fd is what: the kernel objects behind a traced process's descriptors.

/proc names each descriptor's file, and kcmp(2) says whether two descriptors are of one open file:
so a VM is known again however it came there, by dup(2), fork(2), exec(2) or a socket, and none of
these calls need stop the tracee. What was found is kept until the descriptor is closed.
"""

import contextlib
import re
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pyvmm import libc
from pyvmm.trace.ptrace import NUMBERS
from pyvmm.trace.runs import RunPage

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
_OF_A_VM = {"vcpu", "device", "guest-memfd", "stats"}
_REMEMBERED = 16  # objects that have no descriptor that we know of: one may be on its way

_KCMP_FILE = 0


@dataclass(eq=False)
class Object:
    """One kernel object.

    Attributes:
        kind: which fd it is, in the words of the ioctl tables.
        label: its name in the trace: "vm1", "vm1/vcpu0", "vm1/kvm-vfio", "0000:01:00.0".
        link: what /proc calls it.
        vm: the VM that it belongs to.
        device: whose device attributes it has: an in-kernel device's name, else the kind.
        page: a vCPU's ``struct kvm_run``, once it was needed.
        index: a vCPU's number.
    """

    kind: str
    label: str
    link: str
    vm: "Object | None" = None
    device: str = ""
    page: RunPage | None = None
    index: int = -1
    held: set[tuple[int, int]] = field(default_factory=set)  # (pid, fd)

    def release(self) -> None:
        """Unmap what is shared with the tracee."""
        if self.page:
            self.page.close()
            self.page = None


class Objects:
    """Every object that a traced process has a descriptor of."""

    def __init__(self) -> None:
        self._at: dict[tuple[int, int], Object] = {}
        self._lost: deque[Object] = deque(maxlen=_REMEMBERED)
        self._numbers: Counter[str] = Counter()

    def at(self, pid: int, fd: int) -> Object | None:
        """What a descriptor is of; None for a file of no interest, or one that is closed."""
        found = self._at.get((pid, fd))
        return found or self._look(pid, fd)

    def made(self, pid: int, fd: int, vm: Object | None, name: str = "") -> Object | None:
        """What an ioctl has just returned a descriptor of: something new, of `vm` if it says so.

        `name` is what it goes by where the kernel has a better one than /proc: a device's BDF.
        """
        self.closed(pid, fd)
        link = _link(pid, fd)
        return self._new(pid, fd, link, vm, name) if link else None

    def closed(self, pid: int, fd: int) -> Object | None:
        """A descriptor is no more: what it was of, if that was known.

        With an object's last one, what we share with it goes.
        """
        found = self._at.pop((pid, fd), None)
        if found is None:
            return None
        found.held.discard((pid, fd))
        if not found.held:
            found.release()
            self._lost.append(found)
        return found

    def closed_from(self, pid: int, first: int, last: int) -> None:
        """A range of descriptors is no more, `last` included."""
        for owner, fd in list(self._at):
            if owner == pid and first <= fd <= last:
                self.closed(owner, fd)

    def executed(self, pid: int) -> None:
        """A process is another program now, without its close-on-exec descriptors."""
        for (owner, fd), found in list(self._at.items()):
            if owner == pid and _link(pid, fd) != found.link:
                self.closed(pid, fd)

    def gone(self, pid: int) -> None:
        """A process is no more."""
        self.closed_from(pid, 0, 1 << 32)

    def release(self) -> None:
        """Let go of all that we share with tracees."""
        for held in self._at.values():
            held.release()

    def of_kind(self, kind: str) -> Iterator[Object]:
        """Each object of a kind, once."""
        return (o for o in dict.fromkeys(self._at.values()) if o.kind == kind)

    def _look(self, pid: int, fd: int) -> Object | None:
        link = _link(pid, fd)
        if not link or not _kind(link)[0]:
            return None
        known = next((o for o in self._alike(link) if _same(o, pid, fd)), None)
        if not known:
            # A passed descriptor may come out of its socket when the sender's is closed already.
            lost = [o for o in self._lost if o.link == link]
            known = lost[0] if len(lost) == 1 and lost[0].kind in ("vm", *_OF_A_VM) else None
            if known:
                self._lost.remove(known)
        if known:
            self._hold(known, pid, fd)
            return known
        vms = list(self.of_kind("vm"))
        return self._new(pid, fd, link, vms[0] if len(vms) == 1 else None, "")

    def _alike(self, link: str) -> Iterator[Object]:
        return (o for o in dict.fromkeys(self._at.values()) if o.link == link)

    def _new(self, pid: int, fd: int, link: str, vm: Object | None, name: str) -> Object | None:
        kind, number = _kind(link)
        if not kind:
            return None
        new = Object(kind, "", link, vm if kind in _OF_A_VM else None, kind)
        if kind == "device":
            new.device = number
        if kind == "vcpu":
            new.index = int(number)
        new.label = name or self._label(new, number)
        self._hold(new, pid, fd)
        return new

    def _hold(self, held: Object, pid: int, fd: int) -> None:
        held.held.add((pid, fd))
        self._at[pid, fd] = held

    def _label(self, new: Object, number: str) -> str:
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
        self._numbers[label] += 1
        count = self._numbers[label]
        return f"{label}{count}" if count > 1 or new.kind == "vm" else label


def _link(pid: int, fd: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/fd/{fd}").readlink())
    except OSError:
        return ""


def _kind(link: str) -> tuple[str, str]:
    """The kind of fd, and what its link says besides."""
    for pattern, kind in _KINDS:
        if match := pattern.fullmatch(link):
            return kind, match[1] if match.lastindex else ""
    return "", ""


def _same(known: Object, pid: int, fd: int) -> bool:
    """Is the descriptor of this object's open file? All of /dev/kvm's are as good as one."""
    if known.kind == "system":
        return True
    for owner, other in known.held:
        with contextlib.suppress(OSError):
            if libc.syscall(NUMBERS["kcmp"], pid, owner, _KCMP_FILE, fd, other) == 0:
                return True
    return False
