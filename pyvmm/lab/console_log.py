# SPDX-License-Identifier: GPL-2.0-only
"""The console log of an emulated host: what its kernel logged, and how it crashed or stalled.

Until the command begins, the kernel prints only important messages; from then on, all of them.
"""

import re
from dataclasses import dataclass
from pathlib import Path

_COMMAND = "pyvmm: command at"  # init.sh prints it
_TIME = re.compile(r"^\[ *\d+\.\d+\] ?")
_CRASH = re.compile(
    r"kernel BUG at .*|Internal error: .*|Unable to handle kernel .*|Kernel panic - .*"
)
# watchdog_timer_fn (kernel/watchdog.c), print_cpu_stall and print_other_cpu_stall
# (kernel/rcu/tree_stall.h), check_hung_task (kernel/hung_task.c), __oom_kill_process
# (mm/oom_kill.c). The last of them says "Memory cgroup out of memory" for a limit of a cgroup.
_TROUBLE = re.compile(
    r"watchdog: BUG: soft lockup .*"
    r"|rcu: INFO: .*(self-detected stall|detected stalls|detected expedited stalls).*"
    r"|INFO: task .* blocked for more than .*"
    r"|(?P<kill>Out of memory: Killed process .*)"
)
# A line of the call trace: "vfio_pci_vmf_insert_pfn+0x70/0x98", perhaps with " [module]" or " (P)".
_FRAME = re.compile(r"^ ([\w.]+)\+0x[\da-f]+/0x[\da-f]+")


@dataclass(frozen=True)
class Console:
    """The console log in the file `path`, which QEMU writes."""

    path: Path

    def text(self) -> str:
        """Return all of it, with the lines of init.sh."""
        return self.path.read_text(errors="replace").replace("\r", "")

    def lines(self) -> list[str]:
        """Return the lines of the kernel."""
        return _of_kernel(self.text())

    def since_command(self) -> list[str]:
        """Return the lines of the kernel since the command began."""
        return _of_kernel(self.text().partition(_COMMAND)[2].partition("\n")[2])

    def last_line(self) -> str:
        """Return the last line that is not empty."""
        return next((line for line in reversed(self.text().splitlines()) if line.strip()), "")

    def crash(self) -> str:
        """Return the first line of an oops or panic, and its call trace; "" without one."""
        lines = [_TIME.sub("", line) for line in self.lines()]
        first = next((match[0].strip() for line in lines if (match := _CRASH.search(line))), "")
        if not first or "Call trace:" not in lines:
            return first
        frames = []
        for line in lines[lines.index("Call trace:") + 1 :]:
            if not (frame := _FRAME.match(line)):
                break
            frames.append(frame[1])
        return f"{first}; call trace: {' <- '.join(frames)}"

    def trouble(self) -> list[str]:
        """Return what the kernel reported of lockups, stalls and an exhausted memory."""
        return [
            f"{match[0]}: the host's memory was full; pass more with --memory"
            if match["kill"]
            else match[0]
            for match in map(_TROUBLE.search, self.lines())
            if match
        ]


def _of_kernel(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines() if _TIME.match(line)]
