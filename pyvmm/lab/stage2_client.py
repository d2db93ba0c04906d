# SPDX-License-Identifier: GPL-2.0-only
"""What a program in the emulated host can ask of the machine around it; the other end is
`pyvmm.lab.stage2_server`.

One question so far: what the stage-2 descriptor of an IPA says. No interface of KVM's tells, so
the answer is read out of the emulated machine's physical memory.
"""

import json
import os
from pathlib import Path

from pyvmm.errors import LackingError, PyvmmError
from pyvmm.lab.stage2 import Stage2

PORT = "pyvmm.questions"
_PORTS = Path("/sys/class/virtio-ports")


def query_stage2(ipa: int) -> Stage2:
    """What stage 2 makes of `ipa` (in bytes), for the vCPU that is in its guest at this moment.

    Let one thread run a guest that stays in it (`pyvmm.machine.spinning_guest`), ask from another.
    Raises `LackingError` outside the lab, `PyvmmError` where it can't be told.
    """
    answer = json.loads(_ask(f"stage2 {ipa:#x}"))
    if "error" in answer:
        raise PyvmmError(f"stage 2 of IPA {ipa:#x}: {answer['error']}")
    return Stage2(**answer)


def describe_stage2(ipa: int) -> str:
    """`stage2` for people to read: one line, and outside the lab that it can't be read."""
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
            "stage 2 can be read in the lab alone: python -m pyvmm lab shell -- COMMAND"
        )
    port = os.open(f"/dev/{name.parent.name}", os.O_RDWR | os.O_CLOEXEC)
    with os.fdopen(port, "r+b", buffering=0) as line:
        line.write(question.encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            answer += line.read(1 << 12)
    return answer.decode()
