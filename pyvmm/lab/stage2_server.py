# SPDX-License-Identifier: GPL-2.0-only
"""The answers to what a program in the emulated host asks (`pyvmm.lab.stage2_client`).

``stage2 IPA``: the emulated machine is stopped, in the hope that one of its CPUs is in a guest:
its VTTBR_EL2 is that guest's. It is tried until that is so. What HCR_EL2 says then holds for the
guest, and nothing of an earlier VM is taken for it.
"""

import json
import socket
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Self

from pyvmm.lab.gdb import GdbClient, GdbError
from pyvmm.lab.stage2 import HCR_VM, Registers, walk
from pyvmm.lab.stage2_client import PORT

_PATIENCE = 20.0  # seconds until the guest must have run
_PAUSE = 0.01  # seconds that the machine runs between two looks


class Stage2Server:
    """The other end of the questions' port and of QEMU's debug port, as long as it is entered."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            # No other user can enter it: a debug port is the whole machine.
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pyvmm-lab-")))
            self._debug, self._questions = scratch / "debug", scratch / "questions"
            self._listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            self._listener.bind(str(self._questions))
            self._listener.listen(1)
            threading.Thread(target=self._serve, name="questions", daemon=True).start()
            self._owned = stack.pop_all()
        return self

    def __exit__(self, *raised: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # else a thread in accept(2) keeps it
        self._owned.close()

    def arguments(self) -> list[str]:
        """QEMU's arguments, to follow those of the virtio bus that the port is on."""
        argv = ["-gdb", f"unix:{self._debug},server=on,wait=off"]
        argv += ["-chardev", f"socket,id=questions,path={self._questions}"]
        return [*argv, "-device", f"virtserialport,chardev=questions,name={PORT}"]

    def _serve(self) -> None:
        try:
            qemu, _ = self._listener.accept()
        except OSError:  # it is over before QEMU began
            return
        with qemu, qemu.makefile("rw", encoding="utf-8", errors="replace") as lines:
            for question in lines:
                lines.write(self._answer(question.rstrip("\n")) + "\n")
                lines.flush()

    def _answer(self, question: str) -> str:
        word, _, ipa = question.partition(" ")
        try:
            if word != "stage2":
                raise ValueError(f"there is no question {word!r}")
            return json.dumps(self._stage2(int(ipa, 16)))
        except (OSError, ValueError) as error:
            return json.dumps({"error": str(error)})

    def _stage2(self, ipa: int) -> dict[str, object]:
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            with GdbClient(self._debug) as stub:
                if registers := _in_guest(stub):
                    return asdict(walk(registers, ipa, stub.physical))
            time.sleep(_PAUSE)
        raise GdbError(f"no vCPU was seen in its guest for {_PATIENCE:g} s")


def _in_guest(stub: GdbClient) -> Registers | None:
    """The registers of a CPU that is in a guest, with stage 2 on."""
    for cpu in stub.cpus():
        stub.select(cpu)
        hcr = stub.system_register("HCR_EL2")
        if hcr & HCR_VM and stub.exception_level() < 2:
            read = stub.system_register
            return Registers(read("VTTBR_EL2"), read("VTCR_EL2"), hcr)
    return None
