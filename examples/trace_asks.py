# SPDX-License-Identifier: GPL-2.0-only
"""What does a VMM ask of KVM, and what does it do when an answer is missing?

Runs a VMM twice under trace, the second time on a kernel that lacks a capability, as far as the
VMM can tell; prints what it asked for, and where the two runs part.

    python examples/trace_asks.py KVM_CAP_READONLY_MEM qemu-system-x86_64 -accel kvm …
    python examples/trace_asks.py KVM_CAP_USER_MEMORY2 python3 -m pyvmm caps
"""

import os
import sys
from pathlib import Path

from pyvmm.errors import UsageError, as_command

with as_command():  # python-ptrace may be missing: it is an extra
    from pyvmm.trace.diff import diff, lines
    from pyvmm.trace.events import Event, Ioctl
    from pyvmm.trace.inject import Rules, parse
    from pyvmm.trace.known import Known
    from pyvmm.trace.tracer import Tracer
    from pyvmm.trace.watch import Watch


def trace(command: tuple[str, ...], *rules: str) -> list[Event]:
    """Everything that a VMM says to KVM, with rules that answer in the kernel's place."""
    events: list[Event] = []
    known = Known(Rules(map(parse, rules)), detailed=True)
    watch = Watch(known, [events.append], mappings=False)
    tracer = Tracer(watch, watch.calls)
    with Path(os.devnull).open("w") as nowhere:
        tracer.start([*command], stdout=nowhere.fileno())
    tracer.run()
    known.close()
    return events


@as_command()
def main(capability: str = "", *command: str) -> None:
    if not command:
        raise UsageError("give a capability, and the VMM's command line")
    before = trace(command)
    asked = [e for e in before if isinstance(e, Ioctl) and e.name == "KVM_CHECK_EXTENSION"]
    names = {e.names.get("argument.argument", "an unknown one") for e in asked}
    print(f"{command[0]} asks for {len(names)} capabilities")
    print(f"{capability} is {'one' if capability in names else 'none'} of them; without it:")
    after = trace(command, f"cap:{capability}=0")
    for line in lines(diff(before, after)):
        print(f"  {line}")


if __name__ == "__main__":
    main(*sys.argv[1:])
