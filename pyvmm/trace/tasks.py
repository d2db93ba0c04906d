# SPDX-License-Identifier: GPL-2.0-only
"""What /proc says of processes and threads."""

import os
import pwd
from pathlib import Path

_YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")


def threads_of(pid: int) -> set[int]:
    """The thread ids of a process; none where it is gone."""
    try:
        return {int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()}
    except FileNotFoundError:
        return set()


def process_of(tid: int) -> int:
    """The process that a thread belongs to; the thread itself where it is gone already."""
    return int(_status(tid).get("Tgid", tid))


def refusal(pid: int) -> str:
    """Why ptrace(2) will not attach to a process, in one line that says what to do."""
    status = _status(pid)
    tracer = int(status.get("TracerPid", "0"))
    if tracer:
        return f"process {pid} is already traced, by process {tracer}: end that first"
    owner = int(status.get("Uid", "0").split()[0])
    if os.geteuid() not in (0, owner):
        return f"process {pid} belongs to {_name(owner)}: trace it as that user, or as root"
    if _YAMA.exists() and _YAMA.read_text().strip() != "0":
        return f"the kernel lets no one attach to process {pid}: as root, write 0 to {_YAMA}"
    return f"the kernel lets no one trace process {pid}: is it a kernel thread, or pyvmm itself?"


def _status(tid: int) -> dict[str, str]:
    try:
        text = Path(f"/proc/{tid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
