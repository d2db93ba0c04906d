# SPDX-License-Identifier: GPL-2.0-only
"""An emulated host as a board. Every start powers on a new one."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from pyvmm import scratch_dir
from pyvmm.lab import host, qemu
from pyvmm.lab.apt import Progress
from pyvmm.lab.host import FILES, RunningHost
from pyvmm.lab.terminal import Terminal
from pyvmm.testing.board_protocol import JOB_FILE, Job

_VARIABLES = {"HYPOTHESIS_STORAGE_DIRECTORY": "/tmp/hypothesis"}


class LabBoard:
    """A host with the CPU, kernel and KVM mode of `name`, and the devices of ``--lab-device``.

    Attributes:
        kernel: the name of its kernel.
    """

    def __init__(
        self, name: str, cpu: str, kernel: str | None, mode: str | None, option: Any
    ) -> None:
        """Take other properties from the session's options."""
        self.name = name
        self.kernel = kernel or "lab"
        self._cpu, self._kernel, self._mode = cpu, kernel, mode
        self._option = option

    def prepare(self, progress: Progress) -> None:
        """Download and build what the cache lacks."""
        option = self._option
        program = qemu.find(progress, option.lab_qemu)
        devices, arguments = program.devices(option.lab_device, option.lab_device_arg)
        machine = qemu.EmulatedMachine(
            cpu=self._cpu,
            memory=qemu.parse_size(option.lab_memory),
            devices=devices,
            device_arguments=arguments,
            append=option.lab_append,
            cpus=option.lab_cpus_online,
            hugepages=option.lab_hugepages,
            mode=self._mode,
        )
        self._host = host.prepare_by_name(
            program, self._kernel, machine, progress, packages=option.lab_package
        )
        self.kernel = self._host.kernel.name

    @contextmanager
    def start(self, job: Job, stdout: BinaryIO, stderr: BinaryIO) -> Iterator["LabRun"]:
        """Power the host on, run the job, and power it off."""
        with ExitStack() as stack:
            shell = self._option.lab_shell_on_failure
            terminal = stack.enter_context(Terminal()) if shell else None
            settings = stack.enter_context(scratch_dir.create()) / JOB_FILE
            settings.write_text(job.settings(shell=Terminal.DEVICE if shell else None))
            running = stack.enter_context(
                replace(self._host, files=(*job.headers, settings)).boot(
                    job.command(FILES),
                    stdout=stdout,
                    stderr=stderr,
                    variables=_VARIABLES,
                    directory=job.root,
                    terminal=terminal,
                    stdin=True,
                )
            )
            yield LabRun(running, terminal)

    def power_cycle(self) -> None:
        """Do nothing: every start is a new host."""

    def release(self) -> None:
        """Do nothing: a host is nobody else's."""


@dataclass(frozen=True)
class LabRun:
    """A job that runs on a host, with the terminal of ``--lab-shell-on-failure``."""

    _running: RunningHost
    _terminal: Terminal | None

    def send(self, data: bytes) -> None:
        """See `Run.send`."""
        self._running.ports.send(data)

    def relay(self, until: Callable[[], bool], timeout: float) -> bool:
        """See `Run.relay`."""
        return self._running.relay(until, timeout)

    def wait(self, timeout: float | None = None) -> int:
        """See `Run.wait`."""
        return self._running.wait(timeout)

    def console(self) -> str:
        """See `Run.console`."""
        return self._running.console()

    def attach(self, until: Callable[[], bool]) -> None:
        """See `Run.attach`."""
        if self._terminal:
            self._terminal.attach(self._running.ports, until)
