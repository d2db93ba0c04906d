# SPDX-License-Identifier: GPL-2.0-only
"""Show which capabilities a VMM queries, and how it reacts if one is missing.

Runs the VMM twice under trace. In the second run, KVM_CHECK_EXTENSION answers 0 for the given
capability. Prints the capabilities that the VMM queried, and where the two runs differ.

    python examples/trace_asks.py KVM_CAP_READONLY_MEM qemu-system-x86_64 -accel kvm …
    python examples/trace_asks.py KVM_CAP_USER_MEMORY2 python3 -m pyvmm caps
"""

import os
import sys
from pathlib import Path

from pyvmm.errors import UsageError, as_command

with as_command():  # python-ptrace may be missing: it is an extra
    from pyvmm.trace.events import Event, Ioctl
    from pyvmm.trace.inject import Rules, parse
    from pyvmm.trace.kvm_trace import KvmTrace
    from pyvmm.trace.trace_diff import compare, text_lines
    from pyvmm.trace.tracer import Tracer


def trace(command: tuple[str, ...], *rules: str) -> list[Event]:
    """Return the trace of `command`; `rules` replace answers of the kernel."""
    events: list[Event] = []
    handler = KvmTrace([events.append], Rules(map(parse, rules)), detailed=True)
    tracer = Tracer(handler, handler.syscalls)
    with Path(os.devnull).open("w") as nowhere:
        tracer.start([*command], stdout=nowhere.fileno())
    tracer.run()
    handler.close()
    return events


@as_command()
def main(capability: str = "", *command: str) -> None:
    if not command:
        raise UsageError("give a capability and the VMM's command line")
    before = trace(command)
    asked = [e for e in before if isinstance(e, Ioctl) and e.name == "KVM_CHECK_EXTENSION"]
    names = {e.names.get("argument.argument", "an unknown one") for e in asked}
    print(f"{command[0]} queries {len(names)} capabilities")
    print(f"{capability} is {'' if capability in names else 'not '}one of them; without it:")
    after = trace(command, f"cap:{capability}=0")
    for line in text_lines(compare(before, after)):
        print(f"  {line}")


if __name__ == "__main__":
    main(*sys.argv[1:])
