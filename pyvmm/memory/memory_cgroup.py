# SPDX-License-Identifier: GPL-2.0-only
"""The memory limits of a process's control groups (cgroup v2)."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class MemoryLimit:
    """The ``memory.max`` of the control group `path`, in bytes.

    Attributes:
        failures: ``oom`` of ``memory.events``: the allocations that failed at the limit, or for
            which the kernel killed a process, since the group was made.
    """

    path: str
    maximum: int
    failures: int


def memory_limits(pid: int | str = "self") -> list[MemoryLimit]:
    """Return the limits on process `pid`, its own group's first. Raises `OSError`."""
    mount = mount_point()
    path = group_of(pid)
    if mount is None or path is None:
        return []
    limits = []
    while path != "/":
        group = mount / path.lstrip("/")
        try:
            maximum = (group / "memory.max").read_text().strip()
            events = dict(line.split() for line in (group / "memory.events").open())
        except FileNotFoundError:  # no memory controller, or outside of the cgroup namespace
            break
        if maximum != "max":
            limits.append(MemoryLimit(path, int(maximum), int(events["oom"])))
        path = str(Path(path).parent)
    return limits


def mount_point() -> Path | None:
    """Return the directory where cgroup2 is mounted, or None."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, source = line.partition(" - ")
        if source.startswith("cgroup2 "):
            return Path(mount.split()[4])
    return None


def group_of(pid: int | str) -> str | None:
    """Return the path of process `pid`'s control group in cgroup2, or None. Raises `OSError`."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        hierarchy, _, path = line.split(":", 2)
        if hierarchy == "0":
            return path
    return None
