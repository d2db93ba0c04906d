# SPDX-License-Identifier: GPL-2.0-only
"""Answers to the stage-2 queries of programs in the emulated host (`pyvmm.lab.stage2_client`).

For a query ``stage2 IPA``, the server stops the emulated machine and looks for a CPU in a guest,
whose VTTBR_EL2 and HCR_EL2 are those of the guest. If every CPU is in the host, the registers may
be those of an earlier VM: the server then continues the machine and tries again.
"""

import json
import os
import socket
import threading
import time
from contextlib import ExitStack
from dataclasses import asdict
from typing import Self

from pyvmm import scratch_dir
from pyvmm.errors import LackingError
from pyvmm.lab.gdb import GdbClient, GdbError
from pyvmm.lab.lab_devices import option_value
from pyvmm.lab.stage2 import HCR_VM, Stage2Registers, walk
from pyvmm.lab.stage2_client import PORT

_TIMEOUT = 20.0  # seconds to find a CPU in a guest
_LONGEST_PATH = 107  # bytes: sun_path of struct sockaddr_un, with a null byte
_INTERVAL = 0.01  # seconds that the machine runs between two attempts


class Stage2Server:
    """A server for the stage-2 queries of one boot, which uses QEMU's gdb stub."""

    def __enter__(self) -> Self:
        """Start to serve queries in a thread. Raises `LackingError`."""
        with ExitStack() as stack:
            # The gdb stub controls the machine: keep other users out (mode 0700).
            scratch = stack.enter_context(scratch_dir.create())
            self._gdb_path, self._queries_path = scratch / "gdb", scratch / "queries"
            self._listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            if len(os.fsencode(self._queries_path)) > _LONGEST_PATH:
                raise LackingError(
                    f"{scratch.parent} is too long for the path of a socket: set TMPDIR to another"
                )
            self._listener.bind(str(self._queries_path))
            self._listener.listen(1)
            self._thread = threading.Thread(target=self._serve, name="stage2-server", daemon=True)
            self._thread.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *raised: object) -> None:
        """Close the sockets and end the thread."""
        self._listener.shutdown(socket.SHUT_RDWR)  # end accept(2) in the thread
        self._stack.close()
        self._thread.join()

    def arguments(self) -> list[str]:
        """Return QEMU's arguments; those of the virtio-serial bus must precede them."""
        gdb = f"socket,id=gdb,path={option_value(self._gdb_path)},server=on,wait=off"
        argv = ["-chardev", gdb, "-gdb", "chardev:gdb"]
        argv += ["-chardev", f"socket,id=stage2,path={option_value(self._queries_path)}"]
        return [*argv, "-device", f"virtserialport,chardev=stage2,name={PORT}"]

    def _serve(self) -> None:
        try:
            qemu, _ = self._listener.accept()
        except OSError:  # closed before QEMU connected
            return
        with qemu, qemu.makefile("rw", encoding="utf-8", errors="replace") as lines:
            for query in lines:
                lines.write(self._answer(query.rstrip("\n")) + "\n")
                lines.flush()

    def _answer(self, query: str) -> str:
        word, _, ipa = query.partition(" ")
        try:
            if word != "stage2":
                raise ValueError(f"unknown query {word!r}")
            return json.dumps(self._stage2(int(ipa, 16)))
        except (OSError, ValueError) as error:
            return json.dumps({"error": str(error)})

    def _stage2(self, ipa: int) -> dict[str, object]:
        end = time.monotonic() + _TIMEOUT
        while time.monotonic() < end:
            with GdbClient(self._gdb_path) as gdb:
                if registers := _guest_registers(gdb):
                    return asdict(walk(registers, ipa, gdb.physical))
            time.sleep(_INTERVAL)
        raise GdbError(f"no CPU was in a guest for {_TIMEOUT:g} s")


def _guest_registers(gdb: GdbClient) -> Stage2Registers | None:
    """Return the registers of a CPU that is in a guest with stage 2 enabled, or None."""
    for cpu in gdb.cpus():
        gdb.select(cpu)
        hcr = gdb.system_register("HCR_EL2")
        if hcr & HCR_VM and gdb.exception_level() < 2:
            read = gdb.system_register
            return Stage2Registers(read("VTTBR_EL2"), read("VTCR_EL2"), hcr)
    return None
