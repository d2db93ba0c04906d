# SPDX-License-Identifier: GPL-2.0-only
"""One boot of an emulated host for ``--lab``, and the pytest session that it runs."""

import io
import json
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyvmm import scratch_dir
from pyvmm.errors import PyvmmError
from pyvmm.lab.host import FILES, Host, RunningHost
from pyvmm.lab.terminal import Terminal

# pytest and hypothesis must not write beside the tests: the share is read-only. The project's ini
# file may name plugins that the host lacks.
_PYTEST = (
    *("python3", "-m", "pytest", "-p", "pyvmm.testing.plugin", "-p", "pyvmm.testing.guest_agent"),
    *("-p", "no:cacheprovider", "--continue-on-collection-errors"),
    *("-o", "addopts=", "-o", "required_plugins=", "-o", "minversion="),
)
_VARIABLES = {"HYPOTHESIS_STORAGE_DIRECTORY": "/tmp/hypothesis"}
_BOOT_TIMEOUT = 180.0  # additional seconds for the first event: boot, and compiling Python
_EXIT_TIMEOUT = 60.0  # seconds for pytest to end after the last test

Event = Mapping[str, Any]


class HostFailure(PyvmmError):
    """The emulated host died or hangs; the message includes the last lines of its console."""


class HostSession:
    """One boot of a host, which runs tests and reports them as events.

    Attributes:
        stderr: the stderr of pytest in the host.
    """

    def __init__(
        self,
        host: Host,
        modules: Sequence[str],
        *,
        root: Path,
        ini: Path | None,
        options: Mapping[str, Any],
        timeout: float,
        shell: bool,
    ) -> None:
        """Power the host on to run tests of `modules`, paths relative to the shared `root`.

        `timeout` is the limit for each event in seconds. With `shell`, a failed test opens a shell.
        """
        self._events: deque[Event] = deque()
        self._timeout = timeout
        self._boot_timeout = _BOOT_TIMEOUT
        self.stderr = io.BytesIO()
        with ExitStack() as stack:
            self._terminal = stack.enter_context(Terminal()) if shell else None
            scratch = stack.enter_context(scratch_dir.create())
            job = scratch / "job.json"
            terminal = Terminal.DEVICE if shell else None
            job.write_text(json.dumps({"options": options, "shell": terminal}))
            command = [*_PYTEST, "--rootdir=.", f"--guest-agent={FILES / job.name}"]
            command += ["-c", str(ini.relative_to(root))] if ini else []
            # The only files of a host are kernel headers.
            command += [f"--kvm-headers={FILES / each.name}" for each in host.files]
            command += [f"--capture={options['capture']}"] if "capture" in options else []
            command += modules
            self._running: RunningHost = stack.enter_context(
                replace(host, files=(*host.files, job)).boot(
                    command,
                    stdout=_EventParser(self._events),
                    stderr=self.stderr,
                    variables=_VARIABLES,
                    directory=root,
                    terminal=self._terminal,
                    stdin=True,
                )
            )
            self._stack = stack.pop_all()

    def run(self, nodeid: str | None, following: str | None = None) -> None:
        """Order the test `nodeid`, or the end of the session; `following` is the next test.

        The fixtures that the two tests share are kept.
        """
        order = {"run": nodeid, "next": following}
        self._running.ports.send(json.dumps(order).encode() + b"\n")

    def next(self) -> Event:
        """Wait for the next event and return it. Raises `HostFailure`."""
        timeout = self._timeout + self._boot_timeout
        if not self._events and not self._running.relay(self._has_event, timeout):
            raise HostFailure(self._failure())
        self._boot_timeout = 0.0
        return self._events.popleft()

    def _has_event(self) -> bool:
        return bool(self._events)

    def attach(self) -> None:
        """Connect this process's terminal to the shell of a failed test until the shell ends."""
        if self._terminal:
            self._terminal.attach(self._running.ports, self._has_event)

    def close(self, *, kill: bool = False) -> None:
        """Power the host off; without `kill`, first wait for it to save compiled Python."""
        with self._stack:
            if not kill:
                self.run(None)
                try:
                    self._running.wait(_EXIT_TIMEOUT)
                except PyvmmError:
                    return  # every test has ended

    def _failure(self) -> str:
        """Return why the host failed, the end of its console, and the end of stderr."""
        console = self._running.console()
        try:
            status = self._running.wait()
            reason = f"pytest in the emulated host exited with status {status}"
        except PyvmmError as error:
            # Omit the console from the one-line message: it follows.
            reason = str(error).partition("; see the console log")[0]
        last = self.stderr.getvalue().decode(errors="replace").strip().splitlines()[-60:]
        parts = [reason, *(["", "last lines of the console:", console] if console else [])]
        return "\n".join([*parts, *(["", "stderr:", *last] if last else [])])


class _EventParser(io.BytesIO):
    """A file that parses lines of JSON as events and ignores other lines."""

    def __init__(self, events: deque[Event]) -> None:
        super().__init__()
        self._events = events
        self._rest = b""

    def write(self, data: Any) -> int:
        *lines, self._rest = (self._rest + bytes(data)).split(b"\n")
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and "event" in event:
                self._events.append(event)
        return len(data)
