# SPDX-License-Identifier: GPL-2.0-only
"""Queries of stage-2 descriptors by programs in the emulated host.

`pyvmm.lab.stage2_server`, outside the emulated machine, reads the answer from the machine's
physical memory, because no KVM interface reports the memory types of stage 2.
"""

import json
import os
from pathlib import Path

from pyvmm.errors import LackingError, PyvmmError
from pyvmm.lab.stage2 import Stage2Entry

PORT = "pyvmm.stage2"
_PORTS = Path("/sys/class/virtio-ports")


def query_stage2(ipa: int) -> Stage2Entry:
    """Return the stage-2 entry of `ipa` (in bytes) of the vCPU that is currently in its guest.

    One thread must run a guest that does not exit (`pyvmm.machine.spinning_guest`) while another
    calls this. Raises `LackingError` outside the lab, `PyvmmError` if the entry cannot be read.
    """
    answer = json.loads(_ask(f"stage2 {ipa:#x}"))
    if "error" in answer:
        raise PyvmmError(f"cannot read stage 2 of IPA {ipa:#x}: {answer['error']}")
    return Stage2Entry(**answer)


def describe_stage2(ipa: int) -> str:
    """Return the stage-2 entry of `ipa` in one line, or why it cannot be read outside the lab."""
    try:
        return str(query_stage2(ipa))
    except LackingError as error:
        return str(error)


def _ask(question: str) -> str:
    for name in _PORTS.glob("*/name"):
        if name.read_text().strip() == PORT:
            break
    else:
        raise LackingError(
            "stage 2 can be read only in the lab: run python -m pyvmm lab shell -- COMMAND"
        )
    port = os.open(f"/dev/{name.parent.name}", os.O_RDWR | os.O_CLOEXEC)
    with os.fdopen(port, "r+b", buffering=0) as line:
        line.write(question.encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            answer += line.read(1 << 12)
    return answer.decode()
